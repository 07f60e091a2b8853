"""Which way to contract a train: the cheapest by operations and traffic.

A plan groups neighboring cores, which are merged first, and names the end to
start from. Costs are counted from static shapes at trace time, in
multiplications; an element that a product reads or writes counts as `_TRAFFIC`
multiplications, so that thin products are not mistaken for cheap ones.
"""

import dataclasses
import functools
import itertools
import math

# Fitted to times of tensor-train feed-forward layers on two CPU cores.
_TRAFFIC = 64
# A lookup may build the full matrix only where that is this much cheaper.
_FULL_LOOKUP_GAIN = 2
# Merged cores may hold this many elements; beyond it, no more than half of the
# matrix or what x or the result hold anyway, so that nothing of the size of the
# matrix appears where a dense layer has it as a parameter alone.
_SMALL = 2**20

Shape = tuple[int, int, int, int]  # R_{k-1}, I_k, J_k, R_k


@dataclasses.dataclass(frozen=True)
class Plan:
  """Groups [start, stop) of cores to merge, and the end to start from."""

  groups: tuple[tuple[int, int], ...]
  from_left: bool
  cost: float


@functools.lru_cache(maxsize=4096)
def for_apply(shapes: tuple[Shape, ...], tokens: int) -> Plan:
  """The cheapest way to x @ W for x [tokens, prod I], tokens >= 1."""
  _, num_rows, num_cols, _ = _merged(shapes)
  room = merging_room(num_rows, num_cols, tokens * max(num_rows, num_cols))
  return min(
    (
      Plan(groups, from_left, merging + walk(merged, tokens))
      for groups, merged, merging in _groupings(shapes)
      if len(groups) == len(shapes) or _size(merged) <= room
      for from_left, walk in ((False, _right_cost), (True, _left_cost))
    ),
    key=lambda plan: plan.cost,
  )


def merging_room(num_rows: int, num_cols: int, activations: int) -> int:
  """Elements that merged cores may have, besides x and the result."""
  return max(_SMALL, num_rows * num_cols // 2, activations)


@functools.lru_cache(maxsize=4096)
def for_rows(shapes: tuple[Shape, ...], tokens: int) -> Plan:
  """The cheapest way to W[ids] for ids [tokens], tokens >= 1."""
  _, num_rows, num_cols, _ = _merged(shapes)
  room = merging_room(num_rows, num_cols, tokens * num_cols)
  full, *plans = [
    Plan(groups, from_left, merging + tokens * _lookup_cost(merged, from_left))
    for groups, merged, merging in _groupings(shapes)
    if len(groups) in (1, len(shapes)) or _size(merged) <= room
    for from_left in ((True,) if len(groups) == 1 else (True, False))
  ]
  best = min(plans, key=lambda plan: plan.cost, default=full)
  is_small = num_rows * num_cols <= max(_SMALL, tokens * num_cols)
  is_cheap = full.cost * _FULL_LOOKUP_GAIN <= best.cost
  return full if is_small and is_cheap else best


def lookup_size(shapes: tuple[Shape, ...], plan: Plan) -> int:
  """Elements that a lookup of one row gathers and keeps, by this plan."""
  shapes = [_merged(shapes[start:stop]) for start, stop in plan.groups]
  return sum(r * cols * s for r, _, cols, s in shapes)


def state_size(shapes: tuple[Shape, ...], plan: Plan) -> int:
  """The most elements that one token has on its way, by this plan."""
  shapes = [_merged(shapes[start:stop]) for start, stop in plan.groups]
  shapes = shapes if plan.from_left else _mirrored(shapes)
  done, left = 1, math.prod(shape[1] for shape in shapes)
  sizes = [left]
  for _, rows, cols, s in shapes:
    left //= rows
    done *= cols
    sizes.append(done * s * left)
  return max(sizes)


def merge_cut(shapes: tuple[Shape, ...]) -> int:
  """Where to split a train so that merging it costs least."""
  return _merge_plan(shapes)[1]


@functools.lru_cache(maxsize=4096)
def _merge_plan(shapes):
  """(cost, cut) of merging the cores of these shapes into one."""
  if len(shapes) == 1:
    return 0, 0
  options = []
  for cut in range(1, len(shapes)):
    left, right = _merged(shapes[:cut]), _merged(shapes[cut:])
    product = _product(math.prod(left[:3]), left[3], math.prod(right[1:]))
    before = _merge_plan(shapes[:cut])[0] + _merge_plan(shapes[cut:])[0]
    options.append((before + product, cut))
  return min(options)


def _merged(shapes):
  return (
    shapes[0][0],
    math.prod(shape[1] for shape in shapes),
    math.prod(shape[2] for shape in shapes),
    shapes[-1][3],
  )


def _groupings(shapes):
  """Yields (groups, shapes of merged cores, cost of merging them).

  The single group, which is the full matrix, comes first.
  """
  inner = range(1, len(shapes))
  for count in range(len(shapes)):
    for cuts in itertools.combinations(inner, count):
      groups = tuple(itertools.pairwise((0, *cuts, len(shapes))))
      parts = [shapes[start:stop] for start, stop in groups]
      cost = sum(_merge_plan(part)[0] for part in parts)
      yield groups, [_merged(part) for part in parts], cost


def _size(shapes):
  return sum(math.prod(shape) for shape in shapes)


def _product(m, k, n):
  """A matrix product [m, k] @ [k, n]."""
  return m * k * n + _TRAFFIC * (m * k + k * n + m * n)


def _left_cost(shapes, tokens):
  cost, done, left = 0, 1, math.prod(shape[1] for shape in shapes)
  for r, rows, cols, s in shapes:
    left //= rows
    cost += _product(tokens * done * left, r * rows, cols * s)
    done *= cols
  return cost


def _right_cost(shapes, tokens):
  return _left_cost(_mirrored(shapes), tokens)


def _lookup_cost(shapes, from_left):
  """One row: gather a slice of every core, multiply them in order."""
  shapes = shapes if from_left else _mirrored(shapes)
  gather = sum(2 * r * cols * s for r, _, cols, s in shapes)
  cost, done = _TRAFFIC * gather, shapes[0][2]
  for r, _, cols, s in shapes[1:]:
    cost += _product(done, r, cols * s)
    done *= cols
  return cost


def _mirrored(shapes):
  return [(s, rows, cols, r) for r, rows, cols, s in reversed(shapes)]
