"""Which way to contract a train: the fastest by the roofline of `cost`.

A plan groups neighboring cores, which are merged first, and names the end to
start from. A single group is the full matrix. Long walks go in blocks of
tokens, and a full matrix is made in blocks of its rows or columns, where these
stay in the cache and the whole would not. Nothing here sees values: shapes are
static, and a plan is made when a program is traced.
"""

import contextlib
import contextvars
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from tt_compress.algebra import cost
from tt_compress.parallel import partition

# A lookup may build the full matrix only where that is this much cheaper.
_FULL_LOOKUP_GAIN = 2
# Merged cores may hold this many elements; beyond it, no more than half of the
# matrix or what x or the result hold anyway, so that nothing of the size of the
# matrix appears where a dense layer has it as a parameter alone.
_SMALL = 2**20
# What may be kept for the backward pass beside x, as a part of x: a dense layer
# keeps x alone.
_KEPT = 1 / 4
# The most elements that x times some cores may have at a time: 128 MiB.
_WALK_ROOM = 2**25

Shape = tuple[int, int, int, int]  # R_{k-1}, I_k, J_k, R_k
Contraction = Literal['auto', 'cores', 'two', 'full']


@dataclasses.dataclass(frozen=True)
class Plan:
  """A way to contract a train.

  Attributes:
    groups: [start, stop) of the cores to merge.
    from_left: the end to start from; of a single group whether its blocks are
      of rows.
    cost: predicted.
    blocks: of tokens, or of the matrix where there is a single group.
    repeats: whether the backward pass computes again what lies between the
      products, instead of keeping it.
  """

  groups: tuple[tuple[int, int], ...]
  from_left: bool
  cost: cost.Cost
  blocks: int = 1
  repeats: bool = False

  def __str__(self):
    if len(self.groups) == 1:
      parts = 'rows' if self.from_left else 'columns'
      return 'full' + (f' in {self.blocks} x {parts}' * (self.blocks > 1))
    sizes = '+'.join(str(stop - start) for start, stop in self.groups)
    end = 'left' if self.from_left else 'right'
    blocks = f' in {self.blocks} x tokens' * (self.blocks > 1)
    return f'cores {sizes} from {end}{blocks}'


_record = contextvars.ContextVar('record', default=None)


@contextlib.contextmanager
def recorded() -> Iterator[list[Plan]]:
  """Collects the plans of what is traced inside of it."""
  found = []
  token = _record.set(found)
  try:
    yield found
  finally:
    _record.reset(token)


_has_gradients = contextvars.ContextVar('has_gradients', default=True)


@contextlib.contextmanager
def forward_only() -> Iterator[None]:
  """Plans products that are traced inside of it without their gradients."""
  token = _has_gradients.set(False)
  try:
    yield
  finally:
    _has_gradients.reset(token)


def for_apply(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  contraction: Contraction = 'auto',
) -> Plan:
  """The fastest way to x @ W for x [tokens, prod I].

  With its gradients, unless inside of `forward_only`: what is traced does not
  tell whether it will be differentiated.

  Args:
    shapes: of the cores.
    tokens: at least 1.
    dtype: of x.
    contraction: 'auto', or a restriction: 'cores' merges none, 'two' merges
      them to two, 'full' to one.
  """
  gradients = _has_gradients.get()
  plans = ways(shapes, tokens, dtype, contraction, gradients=gradients)
  return _noted(min(plans, key=lambda plan: plan.cost.seconds))


def for_rows(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  contraction: Contraction = 'auto',
) -> Plan:
  """The cheapest way to W[ids] for ids [tokens], tokens >= 1."""
  model = cost.Model(cost.machine(), np.dtype(dtype).itemsize)
  is_split = partition.size() > 1
  plan = _for_rows(tuple(shapes), tokens, model, contraction, is_split)
  return _noted(plan)


def _noted(plan):
  if _record.get() is not None:
    _record.get().append(plan)
  return plan


def ways(
  shapes: Sequence[Shape],
  tokens: int,
  dtype=np.float32,
  contraction: Contraction = 'auto',
  *,
  gradients: bool = True,
) -> tuple[Plan, ...]:
  """All ways to x @ W that memory permits, with what they cost.

  Args:
    shapes, tokens, dtype, contraction: as of `for_apply`.
    gradients: whether costs are of the product and its gradients.
  """
  model = cost.Model(cost.machine(), np.dtype(dtype).itemsize)
  found = _ways(tuple(shapes), tokens, model, contraction, gradients)
  return tuple(plan for plan in found if _suits_side(plan, partition.side()))


@functools.lru_cache(maxsize=4096)
def _ways(shapes, tokens, model, contraction, gradients):
  num_rows, num_cols = _size_of(shapes)
  room = merging_room(num_rows, num_cols, tokens * max(num_rows, num_cols))
  found = []
  for groups, merged, merging in _groupings(shapes, model):
    if not _suits(contraction, len(groups), len(shapes)):
      continue
    if len(groups) == 1 < len(shapes):
      limit = num_rows * num_cols if contraction == 'full' else room
      found += _full_plans(shapes, tokens, model, limit, gradients)
    elif len(groups) == len(shapes) or _size(merged) <= room:
      found += _walk_plans(groups, merged, merging, tokens, model, gradients)
  return tuple(found)


def _suits(contraction, num_groups, num_cores):
  """Whether groups are what was asked for; one or two cores are all of it."""
  wanted = {
    'auto': num_groups,
    'cores': num_cores,
    'two': min(2, num_cores),
    'full': 1,
  }
  return wanted[contraction] == num_groups


def _suits_side(plan, side):
  """Whether a plan begins or ends with the core that is split, and cuts none.

  Of columns the first core is: with it first, all that follows is split. Of
  rows, too, but there products with it are summed over the devices: with it
  last, these are as large as the result.
  """
  if side is None:
    return True
  if len(plan.groups) == 1:
    return plan.blocks == 1
  return plan.from_left == (side == 'cols')


def _walk_plans(groups, merged, merging, tokens, model, gradients):
  """Yields a plan for each end, and each number of blocks of tokens."""
  num_rows, num_cols = _size_of(merged)
  for from_left, shapes in ((False, _mirrored(merged)), (True, merged)):
    for blocks in _token_blocks(_state_size(shapes), tokens, model):
      walk = blocks * _walk(shapes, -(-tokens // blocks), model)
      if blocks > 1:
        walk += model.copy(tokens * (num_rows + num_cols))
      kept = _inner_size(shapes)
      repeats = blocks > 1 or kept > _KEPT * num_rows
      # The backward pass has two products for each of the forward pass.
      times = 3 + repeats if gradients else 1
      total = times * walk + (3 if gradients else 1) * merging
      yield Plan(groups, from_left, total, blocks, repeats)


def _token_blocks(size, tokens, model):
  """Numbers of blocks to consider: as few as memory permits, or in cache."""
  least = -(-tokens * size // _WALK_ROOM)
  cached = -(-tokens * size * model.itemsize // model.machine.cache)
  return sorted({min(tokens, least), min(tokens, max(least, cached))})


def _walk(shapes, tokens, model):
  """x times the cores in this order, from the left."""
  done, left = 1, math.prod(shape[1] for shape in shapes)
  total = cost.Cost()
  for k, (r, rows, cols, s) in enumerate(shapes):
    # Between products what is left of x changes places with the result.
    total += model.copy(tokens * done * r * left) if k else cost.Cost()
    left //= rows
    total += model.product(tokens * done * left, r * rows, cols * s)
    done *= cols
  return total + (model.copy(tokens * done) if len(shapes) > 1 else cost.Cost())


def _full_plans(shapes, tokens, model, room, gradients):
  """Yields a plan for each number of blocks of the matrix, a power of two.

  Blocks of rows add up to the result; blocks of columns stand side by side.
  """
  cut = merge_cut(shapes)
  _, *largest, _ = _merged(shapes[:cut])
  num_rows, num_cols = _size_of(shapes)
  for by_rows, parts in zip((True, False), largest, strict=True):
    for blocks in (2**k for k in range(parts.bit_length())):
      if num_rows * num_cols > room * blocks:
        continue
      making = _making(shapes, cut, blocks, model)
      product = _blocked_product(
        (tokens, num_rows, num_cols), blocks, by_rows, model
      )
      # The backward pass makes the matrix again.
      total = 4 * making + 3 * product if gradients else making + product
      yield Plan(((0, len(shapes)),), by_rows, total, blocks, repeats=True)


def _making(shapes, cut, blocks, model):
  """Making all blocks: products of the left and the right, in order."""
  left, right = _merged(shapes[:cut]), _merged(shapes[cut:])
  m, n = -(-math.prod(left[:3]) // blocks), math.prod(right[1:])
  block = model.product(m, left[3], n) + model.copy(m * n)
  halves = shapes[:cut], shapes[cut:]
  return sum((_merge_plan(half, model)[0] for half in halves), blocks * block)


def _blocked_product(sizes, blocks, by_rows, model):
  tokens, rows, cols = sizes
  if blocks == 1:
    return model.product(tokens, rows, cols)
  result = model.copy(tokens * cols)
  if by_rows:
    block = model.product(tokens, -(-rows // blocks), cols)
    return blocks * (block + result)
  return blocks * model.product(tokens, rows, -(-cols // blocks)) + result


def merging_room(num_rows: int, num_cols: int, activations: int) -> int:
  """Elements that merged cores may have, besides x and the result."""
  return max(_SMALL, num_rows * num_cols // 2, activations)


@functools.lru_cache(maxsize=4096)
def _for_rows(shapes, tokens, model, contraction, is_split):
  num_rows, num_cols = _size_of(shapes)
  room = merging_room(num_rows, num_cols, tokens * num_cols)
  full, *plans = [
    Plan(groups, from_left, merging + _lookup(merged, from_left, tokens, model))
    for groups, merged, merging in _groupings(shapes, model)
    if len(groups) in (1, len(shapes)) or _size(merged) <= room
    for from_left in ((True,) if len(groups) == 1 else (True, False))
  ]
  if contraction != 'auto':
    plans = [
      plan
      for plan in (full, *plans)
      if _suits(contraction, len(plan.groups), len(shapes))
    ]
    return min(plans, key=lambda plan: plan.cost.seconds)
  if is_split:
    # What devices exchange are slices of the first core, if it stays alone.
    plans = [plan for plan in plans if plan.groups[0] == (0, 1)]
  best = min(plans, key=lambda plan: plan.cost.seconds, default=full)
  if is_split:
    return best
  is_small = num_rows * num_cols <= max(_SMALL, tokens * num_cols)
  is_cheap = full.cost.seconds * _FULL_LOOKUP_GAIN <= best.cost.seconds
  return full if is_small and is_cheap else best


def lookup_size(shapes: tuple[Shape, ...], plan: Plan) -> int:
  """Elements that a lookup of one row gathers and keeps, by this plan."""
  shapes = [_merged(shapes[start:stop]) for start, stop in plan.groups]
  return sum(r * cols * s for r, _, cols, s in shapes)


def _state_size(shapes):
  """The most elements that one token has on its way through these cores."""
  return max(_state_sizes(shapes))


def _inner_size(shapes):
  """Elements that one token has between the products."""
  return sum(_state_sizes(shapes)[1:-1])


def _state_sizes(shapes):
  done, left = 1, math.prod(shape[1] for shape in shapes)
  sizes = [left]
  for _, rows, cols, s in shapes:
    left //= rows
    done *= cols
    sizes.append(done * s * left)
  return sizes


def merge_cut(shapes: Sequence[Shape]) -> int:
  """Where to split a train so that merging it costs least."""
  return _merge_plan(tuple(shapes), cost.Model(cost.machine(), 4))[1]


@functools.lru_cache(maxsize=4096)
def _merge_plan(shapes, model):
  """(cost, cut) of merging the cores of these shapes into one."""
  if len(shapes) == 1:
    return cost.Cost(), 0
  options = []
  for cut in range(1, len(shapes)):
    left, right = _merged(shapes[:cut]), _merged(shapes[cut:])
    m, n = math.prod(left[:3]), math.prod(right[1:])
    total = model.product(m, left[3], n) + model.copy(m * n)
    for part in (shapes[:cut], shapes[cut:]):
      total += _merge_plan(part, model)[0]
    options.append((total, cut))
  return min(options, key=lambda option: option[0].seconds)


def _merged(shapes):
  return (
    shapes[0][0],
    math.prod(shape[1] for shape in shapes),
    math.prod(shape[2] for shape in shapes),
    shapes[-1][3],
  )


def _size_of(shapes):
  """(rows, cols) of the matrix of a train."""
  return tuple(math.prod(shape[k] for shape in shapes) for k in (1, 2))


def _groupings(shapes, model):
  """Yields (groups, shapes of merged cores, cost of merging them).

  The single group, which is the full matrix, comes first.
  """
  inner = range(1, len(shapes))
  for count in range(len(shapes)):
    for cuts in itertools.combinations(inner, count):
      groups = tuple(itertools.pairwise((0, *cuts, len(shapes))))
      parts = [shapes[start:stop] for start, stop in groups]
      total = sum((_merge_plan(p, model)[0] for p in parts), cost.Cost())
      yield groups, [_merged(part) for part in parts], total


def _size(shapes):
  return sum(math.prod(shape) for shape in shapes)


def _lookup(shapes, from_left, tokens, model):
  """Rows: gather a slice of every core for each, multiply them in order."""
  shapes = shapes if from_left else _mirrored(shapes)
  total = model.copy(tokens * sum(2 * r * cols * s for r, _, cols, s in shapes))
  done = shapes[0][2]
  for r, _, cols, s in shapes[1:]:
    total += model.product(done, r, cols * s, count=tokens)
    done *= cols
  return total


def _mirrored(shapes):
  return [(s, rows, cols, r) for r, rows, cols, s in reversed(shapes)]
