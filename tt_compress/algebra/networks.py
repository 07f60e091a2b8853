"""A matrix as a tensor network: what shapes alone say about its random start.

A network maps the name of each tensor to the sizes of its indices, in the order
of its axes: {'left': {'i': 512, 'k': 16}, 'right': {'j': 256, 'k': 16}} is a
matrix of rank 16. Indices whose names start with 'i' are digits of the row,
with 'j' digits of the column; W sums over all others. Tensors share an index by
its name, and any number of them may.
"""

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

Network = Mapping[str, Mapping[str, int]]
# What a layer computes with W: x W, the rows W[ids], or logits x W^T.
Role = Literal['product', 'rows', 'logits']


def num_terms(network: Network) -> int:
  """The number of products that an entry of W sums over."""
  return math.prod(
    size for index, size in _sizes(network).items() if index[0] not in 'ij'
  )


def shape(network: Network) -> tuple[int, int]:
  """(rows, cols) of the matrix of all digits."""
  sizes = _sizes(network)
  rows, cols = (
    math.prod(size for index, size in sizes.items() if index[0] == side)
    for side in 'ij'
  )
  return rows, cols


def fans(
  network: Network, order: Sequence[str], role: Role
) -> dict[str, tuple[int, int]]:
  """(fan_in, fan_out) of each tensor as a dense matrix, one after the other.

  A tensor sums over the indices of the intermediate result that no later tensor
  has, its fan_in, and adds those that later tensors or the result have, its
  fan_out. An index that stays is a batch, and part of neither. A row is looked
  up by its digits, so that they are part of neither, too.

  Args:
    network: of W.
    order: names of the tensors, in the order of their products.
    role: what is computed with W.
  """
  given, kept = {'product': 'ij', 'logits': 'ji', 'rows': ' j'}[role]
  tensors = [
    {
      k: size
      for k, size in network[name].items()
      if (k[0], role) != ('i', 'rows')
    }
    for name in order
  ]
  found = {}
  for number, (name, sizes) in enumerate(zip(order, tensors, strict=True)):
    earlier = set().union(*tensors[:number])
    later = set().union(*tensors[number + 1 :])
    before = {k for k in sizes if k[0] == given or k in earlier}
    after = {k for k in sizes if k[0] == kept or k in later}
    product = lambda indices, sizes=sizes: math.prod(sizes[k] for k in indices)
    found[name] = product(before - after), product(after - before)
  return found


def norm(network: Network) -> float:
  """About the largest singular value of W for standard normal tensors.

  A normal matrix has sqrt(rows) + sqrt(cols). In general, give every tensor to
  one side, that of the rows of W or that of its columns: an index that only one
  side has adds its size to a flattening of the network, whose norm is the root
  of the product of such sizes. The result is the sum over all 2^n choices, with
  n = 1 for the matrix, and equals the product of norms for a single Kronecker
  product. Sums over indices are sums of fewer choices than in the product of
  norms of the tensors, which is much too large for deep trains and for sums of
  many Kronecker products.

  Complexity: 2^(open indices) per tensor, the indices shared by tensors before
    and after it.
  """
  last = {k: name for name, sizes in network.items() for k in sizes}
  # {sides of the open indices: sum of the choices for the tensors so far}
  sums = {(): 1.0}
  for name, sizes in network.items():
    following = collections.defaultdict(float)
    for (state, total), side in itertools.product(sums.items(), 'ij'):
      sides = dict(state)
      for k, size in sizes.items():
        seen = sides.pop(k, k[0] if k[0] in 'ij' else side)
        seen = side if seen == side else 'both'
        if last[k] != name:
          sides[k] = seen
        elif seen == side:
          total *= math.sqrt(size)
      following[tuple(sorted(sides.items()))] += total
    sums = following
  [total] = sums.values()
  return total


def _sizes(network):
  """{index: size} of all tensors."""
  return {k: size for sizes in network.values() for k, size in sizes.items()}
