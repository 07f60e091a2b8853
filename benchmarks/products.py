"""Dense products and their gradients relative to `torch.nn.Linear`.

XLA on CPUs has products of three libraries, and reads its operands in the order
of memory that a program gives them. The suite tries them all.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers, programs, records, subprocesses
from tt_compress import timing

ROUNDS = 7
_NO_YNN = {'xla_cpu_experimental_ynn_fusion_type': ''}
_ONEDNN = {
  'xla_cpu_use_onednn': True,
  'xla_cpu_experimental_onednn_fusion_type': 'LIBRARY_FUSION_TYPE_DOT',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A product x W.

  Attributes:
    tokens: rows of x.
    rows, cols: of W.
  """

  tokens: int
  rows: int
  cols: int

  @property
  def text(self) -> str:
    return f'{self.tokens:,} x {self.rows:,} x {self.cols:,}'


CASES = (Case(1530, 192, 384), Case(4096, 512, 2048), Case(4096, 1024, 4096))
TINY = (Case(6, 4, 5),)


def _transposed(x, w):
  return jax.lax.dot_general(x, w.T.copy(), (((1,), (1,)), ((), ())))


def _in_blocks(x, w):
  blocks = jax.lax.map(lambda part: part @ w, jnp.stack(jnp.split(x, 2)))
  return blocks.reshape(len(x), -1)


def _exactly(x, w):
  return jnp.dot(x, w, precision=jax.lax.DotAlgorithmPreset.F32_F32_F32)


# Options of the compiler, and the product.
WAYS: dict[str, tuple[Mapping[str, Any], Callable]] = {
  'XLA by default': ({}, jnp.dot),
  'XLA, Eigen': (_NO_YNN, jnp.dot),
  'XLA, oneDNN': (_ONEDNN, jnp.dot),
  'XLA, algorithm F32_F32_F32': ({}, _exactly),
  'XLA, W transposed': ({}, _transposed),
  'XLA, two blocks of tokens': ({}, _in_blocks),
}


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times of x W, and of its value and both gradients.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case, 'forward' or 'gradient' and way: 'case', 'kind',
    'way', the 'version' of torch, 'threads' of both, and the values of
    `timing.ratios` to torch.

  Raises:
    ModuleNotFoundError: torch is not installed.
  """
  return [
    record
    for case in cases
    for kind in ('forward', 'gradient')
    for record in _measure(case, kind, options)
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'kind', 'way', 'ratio', 'ratio_of_minima')
  return records.table_of((*columns, 'ms', 'reference_ms'), found)


def _measure(case, kind, options):
  calls = {
    way: _program(case, kind, product, compiler).call
    for way, (compiler, product) in WAYS.items()
  }
  sizes = map(str, dataclasses.astuple(case))
  with subprocesses.started(
    peers.python(('torch',)), 'benchmarks.products_torch', kind, *sizes
  ) as (ask, version):
    calls['torch'] = lambda: ask('')
    times = timing.interleaved(calls, **options)
  for way in WAYS:
    ratios = timing.ratios(times, way, 'torch')
    yield {
      'case': case.text,
      'kind': kind,
      'way': way,
      'version': version,
      'threads': len(os.sched_getaffinity(0)),
      **{name: records.rounded(value) for name, value in ratios.items()},
    }


def _program(case, kind, product, compiler_options):
  draw = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)
  x, w = normal(case.tokens, case.rows), normal(case.rows, case.cols)
  if kind == 'forward':
    function = jax.jit(product, compiler_options=dict(compiler_options))
    return programs.repeated(function, x, w)
  function = jax.jit(
    jax.value_and_grad(
      lambda x, w, weights: jnp.sum(product(x, w) * weights), (0, 1)
    ),
    compiler_options=dict(compiler_options),
  )
  return programs.repeated(function, x, w, normal(case.tokens, case.cols))
