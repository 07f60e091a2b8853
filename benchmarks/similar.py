"""Inner products and nearest rows relative to those of reconstructed rows.

The reference of inner products looks both rows up; that of nearest rows makes
all rows, in blocks, and multiplies them with those of the ids.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import programs, records
from tt_compress import parameterizations, timing
from tt_compress.algebra import blocks
from tt_compress.parameterizations import base

ROUNDS = 7
_GOAL = 1.0


@dataclasses.dataclass(frozen=True)
class Case:
  """An embedding whose rows are compared.

  Attributes:
    name: of the parameterization.
    shape: (rows, cols).
    options: of the parameterization.
    pairs: number of inner products.
    ids: number of rows whose nearest rows are found.
    k: number of nearest rows.
  """

  name: str
  shape: tuple[int, int]
  options: Mapping[str, Any]
  pairs: int = 4096
  ids: int = 16
  k: int = 10

  @property
  def spec(self) -> base.Parameterization:
    return parameterizations.make(self.name, *self.shape, **self.options)

  @property
  def text(self) -> str:
    options = ', '.join(f'{k}={v}' for k, v in self.options.items())
    rows, cols = self.shape
    return f'{self.name}({options}) {rows:,} x {cols:,}'


def _tree(name, shape, order, rank, norm):
  return Case(name, shape, dict(order=order, rank=rank, norm=norm))


CASES = (
  *(
    _tree('word2ket', (30_000, 256), order, rank, norm)
    for order, rank in ((4, 1), (2, 2), (4, 5))
    for norm in ('none', 'plain')
  ),
  _tree('word2ket', (10_000, 8_000), 4, 1, 'plain'),
  _tree('word2ketxs', (118_655, 300), 4, 1, 'none'),
  _tree('word2ketxs', (118_655, 300), 2, 2, 'none'),
  _tree('word2ketxs', (118_655, 300), 4, 1, 'plain'),
  _tree('word2ketxs', (30_000, 400), 2, 30, 'none'),
  _tree('word2ketxs', (30_000, 8_000), 4, 1, 'none'),
  Case('kronecker', (32_768, 1_024), dict(rank=16)),
  Case('tensor_train', (32_768, 1_024), dict(tt_rank=4)),
  Case('tensor_train', (32_768, 1_024), dict(tt_rank=16)),
  Case('low_rank', (32_768, 1_024), dict(rank=64)),
  Case('tucker', (32_768, 1_024), dict(tucker_rank=4)),
)
TINY = (Case('word2ket', (20, 16), dict(order=2, rank=1), pairs=6, ids=2, k=3),)


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times relative to reconstruction.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    Two records for each case: 'case', 'kind' ('inner' or 'nearest'), the values
    of `timing.ratios`, 'goal', the 'temporaries' of both in MiB, and the
    largest 'error' of an inner product, relative to the largest of them.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'kind', 'ratio', 'goal', 'ms', 'reference_ms')
  extras = ('temporaries', 'reference_temporaries', 'error')
  return records.table_of((*columns, *extras), found)


def _measure(case, options):
  spec = case.spec
  factors = jax.jit(lambda key: spec.init(key, std=0.1))(jax.random.key(0))
  random = np.random.default_rng(0)
  pairs = random.integers(0, spec.rows, (2, case.pairs), np.int32)
  ids = random.integers(0, spec.rows, case.ids, np.int32)
  slow = lambda method: lambda factors, *ids: method(spec, factors, *ids)
  near = lambda factors, ids: spec.nearest(factors, ids, case.k)
  for kind, function, reference, arguments in (
    ('inner', spec.inner, slow(base.Parameterization._inner), pairs),
    ('nearest', near, slow(_nearest(case.k)), (ids,)),
  ):
    arguments = factors, *map(jnp.asarray, arguments)
    both = {
      'ours': programs.repeated(jax.jit(function), *arguments),
      'rows': programs.repeated(jax.jit(reference), *arguments),
    }
    calls = {name: program.call for name, program in both.items()}
    times = timing.interleaved(calls, **options)
    ratios = timing.ratios(times, 'ours', 'rows')
    yield {
      'case': case.text,
      'kind': kind,
      **{key: records.rounded(value) for key, value in ratios.items()},
      'goal': _GOAL,
      'temporaries': _temporaries(both['ours']),
      'reference_temporaries': _temporaries(both['rows']),
      'error': records.rounded(_error(*(call() for call in calls.values()))),
    }


def _nearest(k):
  """Nearest rows, by all rows."""

  def nearest(spec, factors, ids):
    count = blocks.num_blocks(spec.rows, spec.cols)
    rows = spec.row_blocks(factors, count)
    scores = blocks.attend(*rows, spec.take(factors, ids))[:, : spec.rows]
    scores = scores.at[jnp.arange(len(ids)), ids].set(-jnp.inf)
    largest, found = jax.lax.top_k(scores, k)
    return found, largest

  return nearest


def _temporaries(program):
  return records.rounded(program.memory['temporaries'] / 2**20)


def _error(ours, theirs):
  """Of inner products, which come last; ids of equal ones may differ."""
  ours, theirs = (jax.tree.leaves(each)[-1] for each in (ours, theirs))
  return float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)))
