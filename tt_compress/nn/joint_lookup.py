"""Lookups in many embeddings at once."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from tt_compress.algebra import context
from tt_compress.nn import embed
from tt_compress.nn.dropout import Noise


def take(
  tables: Sequence[embed.Embed],
  ids: Integer[ArrayLike, 'batch tables'],
  noise: Noise | None = None,
) -> Float[Array, 'batch tables dim']:
  """The row of each table at its column of ids.

  Compressed tables of one spec are stacked and looked up as one: a program of
  many tables compiles in less time than with a lookup per table, but its steps
  take longer on a CPU (`python -m benchmarks --suite=clicks`). Rows of such
  tables are short, so equal ids are looked up as often as they occur.

  Args:
    tables: embeddings of the same dim.
    ids: in [0, rows) of each table.
    noise: keys for stochastic tables; None means deterministic.
  """
  groups: dict[tuple, list[int]] = {}
  for place, table in enumerate(tables):
    is_noisy = noise is not None and table.spec.has_noise
    # Stacking copies the factors, which would be a whole dense matrix.
    is_alone = is_noisy or table.spec.compression_ratio <= 1
    key = table.spec, table.dtype, place if is_alone else None
    groups.setdefault(key, []).append(place)
  found = [None] * len(tables)
  with context.use(distinct=False):
    for places in groups.values():
      for place, rows in zip(
        places, _rows(tables, places, ids, noise), strict=True
      ):
        found[place] = rows
  return jnp.stack(found, axis=1)


def _rows(tables, places, ids, noise):
  """Rows [batch, dim] of each table of a group."""
  if len(places) == 1:
    [place] = places
    return [tables[place](ids[:, place], noise)]
  first = tables[places[0]]
  values = [tables[place].values() for place in places]
  stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *values)
  return first.cast(jax.vmap(first.spec.take)(stacked, ids[:, places].T))
