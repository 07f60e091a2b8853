"""An adaptive softmax relative to a softmax over all words, with gradients.

Both have the same matrix of words and compute their loss in blocks of tokens,
see `nn.cross_entropy` and `nn.adaptive_softmax`. Words and cutoffs are those of
WikiText-103 in "Transformer-XL".
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import layer_cases, programs, records
from tt_compress import parameterizations, timing
from tt_compress.nn import (
  adaptive_softmax,
  cluster_tables,
  cross_entropy,
  embed,
  modules,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A matrix of words, or a matrix for each cluster of words.

  Attributes:
    name: of the matrices, for a table.
    spec: name and options of the matrix of all words.
    clusters: the same of the matrix of each cluster, for the adaptive softmax;
      () for rows of one matrix.
    words: number of words.
    dim: size of the features.
    cutoffs: of the clusters.
    tokens: whose targets follow Zipf's law.
  """

  name: str
  spec: Mapping[str, Any]
  clusters: tuple[Mapping[str, Any], ...] = ()
  words: int = 267_735
  dim: int = 512
  cutoffs: tuple[int, ...] = (20_000, 40_000, 200_000)
  tokens: int = 256

  @property
  def text(self) -> str:
    return f'{self.name} {self.words:,} x {self.dim}, {self.tokens} tokens'


# The shapes of "Tensorized Embedding Layers for Efficient Model Compression",
# Table 3, and matrices of clusters with about as many numbers.
_TRAIN = dict(
  name='tensor_train',
  row_modes=(60, 60, 75),
  col_modes=(8, 8, 8),
  tt_rank=96,
)
_OF_CLUSTERS = tuple(
  dict(name='tensor_train', num_modes=3, max_params=number)
  for number in (2_400_000, 800_000, 900_000, 400_000)
)
CASES = (
  Case(name='dense', spec=dict(name='dense')),
  Case(name='tensor_train(rank 96)', spec=_TRAIN),
  Case(
    name='tensor_train(rank 96) and one per cluster',
    spec=_TRAIN,
    clusters=_OF_CLUSTERS,
  ),
)
_SMALL = dict(
  spec=dict(name='dense'), words=30, dim=8, cutoffs=(5, 10), tokens=6
)
TINY = (
  Case(name='dense', **_SMALL),
  Case(
    name='clusters',
    clusters=3 * (dict(name='low_rank', rank=1),),
    **_SMALL,
  ),
)
ROUNDS = 3


class Softmax(nnx.Module):
  """The loss of an output layer: adaptive, or over all words."""

  def __init__(self, case: Case, is_adaptive: bool):
    rngs = nnx.Rngs(0)
    self.words = cluster_tables.ranges(case.cutoffs, case.words)
    self.softmax = (
      adaptive_softmax.AdaptiveSoftmax(
        case.cutoffs, case.words, case.dim, rngs=rngs
      )
      if is_adaptive
      else None
    )
    if not (is_adaptive and case.clusters):
      self.table = _table(case.spec, case.words, case.dim)
      return
    self.table = cluster_tables.ClusterTables(self.words, case.dim, rngs=rngs)
    for k, (start, stop) in enumerate(self.words):
      table = _table(case.clusters[k], stop - start, case.dim)
      self.table.clusters[k] = table

  def __call__(self, *arguments: jax.Array) -> jax.Array:
    if self.softmax is None:
      return cross_entropy.summed(self.table, *arguments)
    return self.softmax.cross_entropy(self.table, *arguments)


def _table(options, words, dim):
  spec = parameterizations.make(rows=words, cols=dim, **options)
  return embed.Embed(words, dim, spec=spec, role='logits', rngs=nnx.Rngs(0))


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times and temporaries relative to a softmax over all words.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', 'kind', the values of `timing.ratios`,
    'memory' (the temporaries relative to those of all words), and 'temporaries'
    and 'full_temporaries' in MiB.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'ratio', 'ratio_of_minima', 'ms', 'reference_ms')
  columns += ('memory', 'temporaries', 'full_temporaries')
  return records.table_of(columns, found)


def _measure(case, options):
  pair = {name: _program(case, name == 'ours') for name in ('ours', 'full')}
  calls = {name: made.call for name, made in pair.items()}
  times = timing.interleaved(calls, **options)
  ratios = timing.ratios(times, 'ours', 'full')
  sizes = {name: made.memory['temporaries'] for name, made in pair.items()}
  return {
    'case': case.text,
    'kind': 'gradient',
    **{name: records.rounded(value) for name, value in ratios.items()},
    'memory': records.rounded(sizes['ours'] / sizes['full']),
    'temporaries': records.rounded(sizes['ours'] / 2**20),
    'full_temporaries': records.rounded(sizes['full'] / 2**20),
  }


def _program(case, is_adaptive):
  graphdef, params, buffers = modules.split(Softmax(case, is_adaptive))
  draw = np.random.default_rng(0)
  x = jnp.asarray(draw.normal(size=(case.tokens, case.dim)), jnp.float32)
  targets = jnp.asarray(layer_cases.ids('zipf', case.words, case.tokens))
  weights = jnp.full(case.tokens, 1 / case.tokens)

  def loss(params, x):
    model = modules.merge(graphdef, params, buffers)
    return model(x, targets, weights)

  return programs.repeated(jax.jit(jax.value_and_grad(loss, (0, 1))), params, x)
