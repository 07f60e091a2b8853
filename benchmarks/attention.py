"""Attention by cuDNN relative to attention by XLA, on a GPU."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import programs, records
from tt_compress import timing
from tt_compress.algebra import context

ROUNDS = 5
_PADDING = 3  # tokens at the end of a sentence


@dataclasses.dataclass(frozen=True)
class Case:
  """Self-attention with a mask, in bfloat16.

  Attributes:
    shape: (batch, length, heads, head_dim).
    is_causal: whether the mask hides what follows a token; otherwise it hides
      padding.
  """

  shape: tuple[int, int, int, int]
  is_causal: bool

  @property
  def text(self) -> str:
    mask = 'causal' if self.is_causal else 'padding'
    return f'attention {" x ".join(map(str, self.shape))}, {mask}'


# Transformer-big on 24,576 tokens, and a language model.
CASES = (
  Case((190, 129, 16, 64), is_causal=False),
  Case((190, 129, 16, 64), is_causal=True),
  Case((24, 1024, 16, 64), is_causal=True),
)
TINY = (Case((2, 8, 2, 8), is_causal=True),)


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times of both, with gradients; where there is no cuDNN, XLA twice.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', 'kind', 'implementation', the values of
    `timing.ratios`, and 'difference' of the gradients relative to their norm.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'implementation', 'ratio', 'ms', 'reference_ms')
  return records.table_of((*columns, 'difference'), found)


def _measure(case, options):
  name = 'cudnn' if context.current().backend == 'gpu' else 'xla'
  calls = {
    'ours': _program(case, name).call,
    'dense': _program(case, 'xla').call,
  }
  found, wanted = (np.asarray(calls[key](), 'f4') for key in ('ours', 'dense'))
  difference = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
  return {
    'case': case.text,
    'kind': 'gradient',
    'implementation': name,
    **records.ratios(timing.interleaved(calls, **options)),
    'difference': records.rounded(difference),
  }


def _program(case, implementation):
  x = jax.random.normal(jax.random.key(0), (4, *case.shape), jnp.bfloat16)
  length = case.shape[1]
  mask = np.arange(length) < length - _PADDING
  if case.is_causal:
    mask = np.tri(length, dtype=bool)
  attend = functools.partial(
    jax.nn.dot_product_attention,
    mask=np.broadcast_to(mask, (1, 1, length, length)),
    implementation=implementation,
  )

  def loss(parts):
    *inputs, weights = parts
    return jnp.sum((attend(*inputs) * weights).astype(jnp.float32))

  return programs.repeated(jax.jit(jax.grad(loss)), x)
