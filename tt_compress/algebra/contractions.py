"""Chooses how to contract a train: the fastest way by the roofline of `cost`.

A contraction groups neighboring cores, merges each group into one core, and
multiplies x by these from the left or the right end. A single group is the full
matrix. Long walks are computed in blocks of tokens, and a full matrix in blocks
of its rows or columns, where a block stays in the cache and the whole array
would not. Shapes are static, so a contraction is chosen when a program is
traced, and no value is looked at.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from tt_compress.algebra import context, cost, train_costs
from tt_compress.parallel import partition

# A lookup may build the full matrix only where that is this much cheaper.
_FULL_LOOKUP_GAIN = 2
# Merged cores may hold this many elements, or as many as `merging_room` allows.
_SMALL = 2**20
# Elements kept for the backward pass besides x, relative to the size of x. A
# dense layer keeps x alone.
_KEPT = 1 / 4
# The most elements that x times some cores may have at a time: 128 MiB.
_WALK_ROOM = 2**25

Shape = train_costs.Shape
# 'cores' merges no cores, 'two' merges them into two, 'full' into one.
Restriction = Literal['auto', 'cores', 'two', 'full']


@dataclasses.dataclass(frozen=True)
class Contraction:
  """One way to contract a train.

  Attributes:
    groups: ranges [start, stop) of the cores to merge.
    from_left: whether x meets the leftmost core first; of a single group,
      whether its blocks are blocks of rows.
    cost: predicted.
    blocks: number of blocks of tokens, or of the matrix if there is a single
      group.
    repeats: whether the backward pass computes the arrays between the products
      again instead of keeping them.
  """

  groups: tuple[tuple[int, int], ...]
  from_left: bool
  cost: cost.Cost
  blocks: int = 1
  repeats: bool = False

  def __str__(self):
    if self.is_full:
      parts = 'rows' if self.from_left else 'columns'
      return 'full' + (f' in {self.blocks} x {parts}' * (self.blocks > 1))
    sizes = '+'.join(str(stop - start) for start, stop in self.groups)
    end = 'left' if self.from_left else 'right'
    blocks = f' in {self.blocks} x tokens' * (self.blocks > 1)
    return f'cores {sizes} from {end}{blocks}'

  @property
  def is_full(self) -> bool:
    """Whether all cores are merged, which makes the full matrix."""
    return len(self.groups) == 1


def for_apply(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  restriction: Restriction = 'auto',
) -> Contraction:
  """The fastest contraction of x @ W for x [tokens, prod I].

  Its gradients count, too, unless `context` says that there are none: a traced
  function cannot know whether it will be differentiated.

  Args:
    shapes: of the cores.
    tokens: at least 1.
    dtype: of x.
    restriction: of the contractions to choose from.
  """
  gradients = context.current().gradients
  return _recorded(
    _fastest(
      candidates(shapes, tokens, dtype, restriction, gradients=gradients)
    )
  )


def for_rows(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  restriction: Restriction = 'auto',
) -> Contraction:
  """The cheapest contraction of W[ids] for ids [tokens], tokens >= 1."""
  is_sharded = partition.size() > 1
  model = _model(dtype)
  return _recorded(
    _for_rows(tuple(shapes), tokens, model, restriction, is_sharded)
  )


def candidates(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  restriction: Restriction = 'auto',
  *,
  gradients: bool = True,
) -> tuple[Contraction, ...]:
  """All contractions of x @ W that fit in memory, with their costs.

  Args:
    shapes, tokens, dtype, restriction: as of `for_apply`.
    gradients: whether costs are of the product and its gradients.
  """
  found = _candidates(
    tuple(shapes), tokens, _model(dtype), restriction, gradients
  )
  side = context.current().side
  return tuple(each for each in found if _suits_side(each, side))


def merging_room(num_rows: int, num_cols: int, activations: int) -> int:
  """The most elements that merged cores may have, besides x and the result.

  A large matrix must not appear where a dense layer has it only as a parameter,
  so merged cores are small, or at most half of the matrix, or no larger than x
  or the result are anyway.
  """
  return max(_SMALL, num_rows * num_cols // 2, activations)


def merge_cut(shapes: Sequence[Shape]) -> int:
  """Where to cut a train so that merging the halves, then both, costs least."""
  return train_costs.merging(tuple(shapes), _model(np.float32))[1]


def lookup_size(shapes: tuple[Shape, ...], contraction: Contraction) -> int:
  """Elements that a lookup gathers and keeps for one row."""
  parts = [
    train_costs.merged(shapes[start:stop]) for start, stop in contraction.groups
  ]
  return sum(r * cols * s for r, _, cols, s in parts)


def _model(dtype):
  return cost.Model(context.current().machine, np.dtype(dtype).itemsize)


def _fastest(contractions, **default):
  return min(contractions, key=lambda each: each.cost.seconds, **default)


def _recorded(contraction):
  record = context.current().record
  if record is not None:
    record.append(contraction)
  return contraction


def _groupings(
  shapes, model
) -> Iterator[tuple[tuple[tuple[int, int], ...], list[Shape], cost.Cost]]:
  """Yields groups, the shapes of their merged cores, and the cost of merging.

  The single group, which is the full matrix, comes first.
  """
  inner = range(1, len(shapes))
  for count in range(len(shapes)):
    for cuts in itertools.combinations(inner, count):
      groups = tuple(itertools.pairwise((0, *cuts, len(shapes))))
      parts = [shapes[start:stop] for start, stop in groups]
      costs = (train_costs.merging(part, model)[0] for part in parts)
      merged = [train_costs.merged(part) for part in parts]
      yield groups, merged, sum(costs, cost.Cost())


@functools.lru_cache(maxsize=4096)
def _candidates(shapes, tokens, model, restriction, gradients):
  num_rows, num_cols = train_costs.matrix_shape(shapes)
  room = merging_room(num_rows, num_cols, tokens * max(num_rows, num_cols))
  found = []
  for groups, merged, merging in _groupings(shapes, model):
    if not _suits(restriction, len(groups), len(shapes)):
      continue
    if len(groups) == 1 < len(shapes):
      limit = num_rows * num_cols if restriction == 'full' else room
      found += _products_with_full(shapes, tokens, model, limit, gradients)
    elif len(groups) == len(shapes) or sum(map(math.prod, merged)) <= room:
      found += _walks(groups, merged, merging, tokens, model, gradients)
  return tuple(found)


def _suits(restriction, num_groups, num_cores):
  """Whether a restriction permits this number of groups of cores."""
  wanted = {
    'auto': num_groups,
    'cores': num_cores,
    'two': min(2, num_cores),
    'full': 1,
  }
  return wanted[restriction] == num_groups


def _suits_side(contraction, side):
  """Whether the sharded core comes first or last, and no block cuts it.

  The first core is the sharded one. Where it has a part of the columns, x meets
  it first, and all later arrays are sharded. Where it has a part of the rows,
  x meets it last, because its products are summed over the devices and the sum
  is then no larger than the result.
  """
  if side is None:
    return True
  if contraction.is_full:
    return contraction.blocks == 1
  return contraction.from_left == (side == 'cols')


def _walks(groups, merged, merging, tokens, model, gradients):
  """Yields a contraction per end and number of blocks of tokens."""
  num_rows, num_cols = train_costs.matrix_shape(merged)
  ends = (False, train_costs.mirrored(merged)), (True, merged)
  for from_left, shapes in ends:
    sizes = train_costs.walk_sizes(shapes)
    for blocks in _token_blocks(max(sizes), tokens, model):
      walk = blocks * train_costs.walk(shapes, -(-tokens // blocks), model)
      if blocks > 1:
        walk += model.copy(tokens * (num_rows + num_cols))
      repeats = blocks > 1 or sum(sizes[1:-1]) > _KEPT * num_rows
      # The backward pass has two products for each of the forward pass.
      times = 3 + repeats if gradients else 1
      total = times * walk + (3 if gradients else 1) * merging
      yield Contraction(groups, from_left, total, blocks, repeats)


def _token_blocks(size, tokens, model):
  """Numbers of blocks to consider: as few as fit in memory, or in the cache."""
  least = -(-tokens * size // _WALK_ROOM)
  cached = -(-tokens * size * model.itemsize // model.machine.cache)
  return sorted({min(tokens, least), min(tokens, max(least, cached))})


def _products_with_full(shapes, tokens, model, room, gradients):
  """Yields a contraction per number of blocks of the matrix, a power of two."""
  cut = train_costs.merging(shapes, dataclasses.replace(model, itemsize=4))[1]
  _, *largest, _ = train_costs.merged(shapes[:cut])
  matrix = train_costs.matrix_shape(shapes)
  groups = ((0, len(shapes)),)
  for by_rows, parts in zip((True, False), largest, strict=True):
    for blocks in (2**k for k in range(parts.bit_length())):
      if math.prod(matrix) > room * blocks:
        continue
      making = train_costs.making(shapes, cut, blocks, model)
      product = train_costs.blocked_product(
        tokens, matrix, blocks, by_rows, model
      )
      # The backward pass makes the matrix again.
      total = 4 * making + 3 * product if gradients else making + product
      yield Contraction(groups, by_rows, total, blocks, repeats=True)


@functools.lru_cache(maxsize=4096)
def _for_rows(shapes, tokens, model, restriction, is_sharded):
  full, *others = _lookups(shapes, tokens, model)
  if restriction != 'auto':
    return _fastest(
      each
      for each in (full, *others)
      if _suits(restriction, len(each.groups), len(shapes))
    )
  if is_sharded:
    # Devices exchange slices of the first core, if it is not merged.
    others = [each for each in others if each.groups[0] == (0, 1)]
    return _fastest(others, default=full)
  best = _fastest(others, default=full)
  num_rows, num_cols = train_costs.matrix_shape(shapes)
  is_small = num_rows * num_cols <= max(_SMALL, tokens * num_cols)
  is_cheap = full.cost.seconds * _FULL_LOOKUP_GAIN <= best.cost.seconds
  return full if is_small and is_cheap else best


def _lookups(shapes, tokens, model):
  """Yields all contractions of a lookup, that through the full matrix first."""
  num_rows, num_cols = train_costs.matrix_shape(shapes)
  room = merging_room(num_rows, num_cols, tokens * num_cols)
  for groups, merged, merging in _groupings(shapes, model):
    is_whole = len(groups) in (1, len(shapes))
    if not is_whole and sum(map(math.prod, merged)) > room:
      continue
    for from_left in (True,) if len(groups) == 1 else (True, False):
      lookup = train_costs.lookup(merged, from_left, tokens, model)
      yield Contraction(groups, from_left, merging + lookup)
