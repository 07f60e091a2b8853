"""What shapes of networks say, against matrices that are drawn."""

import itertools
import math

import numpy as np
import pytest

from tt_compress.algebra import networks

LOW_RANK = {'left': {'i': 48, 'k': 5}, 'right': {'j': 64, 'k': 5}}
TRAIN = {
  'core_0': {'i_0': 4, 'j_0': 6, 'r': 3},
  'core_1': {'r': 3, 'i_1': 5, 'j_1': 2, 's': 7},
  'core_2': {'s': 7, 'i_2': 3, 'j_2': 4},
}
# Three tensors share an index, one has an index of its own.
SHARED = {
  'a': {'k': 4, 'i_0': 3, 'j_0': 5},
  'b': {'i_1': 6, 'k': 4, 'own': 2},
  'c': {'k': 4, 'i_0': 3, 'j_1': 7},
}


def matrix(network, random):
  """Normal tensors, multiplied by one call of einsum."""
  names = sorted({k for sizes in network.values() for k in sizes})
  arguments = []
  for sizes in network.values():
    arguments.append(random.normal(size=tuple(sizes.values())))
    arguments.append([names.index(k) for k in sizes])
  digits = [names.index(k) for side in 'ij' for k in names if k[0] == side]
  return np.einsum(*arguments, digits).reshape(networks.shape(network))


def flattenings(network):
  """Norms of all flattenings: indices that belong to one side count."""
  names = list(network)
  members = {}
  for name, sizes in network.items():
    for k, size in sizes.items():
      members.setdefault((k, size), []).append(name)
  for sides in itertools.product('ij', repeat=len(names)):
    side_of = dict(zip(names, sides, strict=True))
    product = 1.0
    for (k, size), owners in members.items():
      found = {side_of[name] for name in owners} | ({k[0]} & {'i', 'j'})
      product *= math.sqrt(size) if len(found) == 1 else 1
    yield product


@pytest.mark.parametrize(
  'network, order, role, expected',
  [
    (LOW_RANK, ('left', 'right'), 'product', ((48, 5), (5, 64))),
    (LOW_RANK, ('left', 'right'), 'rows', ((1, 5), (5, 64))),
    (LOW_RANK, ('right', 'left'), 'logits', ((64, 5), (5, 48))),
    (
      TRAIN,
      ('core_2', 'core_1', 'core_0'),
      'product',
      ((3, 28), (35, 6), (12, 6)),
    ),
    (TRAIN, ('core_0', 'core_1', 'core_2'), 'rows', ((1, 18), (3, 14), (7, 4))),
    (SHARED, ('a', 'b', 'c'), 'rows', ((1, 20), (2, 1), (4, 7))),
    # An index of several tensors is a batch until its last one.
    (SHARED, ('b', 'c', 'a'), 'product', ((12, 4), (1, 7), (12, 5))),
  ],
)
def test_fans(network, order, role, expected):
  found = networks.fans(network, order, role)
  assert found == dict(zip(order, expected, strict=True))


def test_a_matrix_has_the_norm_of_a_normal_matrix():
  found = networks.norm({'matrix': {'i': 49, 'j': 25}})
  assert found == pytest.approx(7 + 5)


@pytest.mark.parametrize('network', [LOW_RANK, TRAIN, SHARED])
def test_norm_is_a_sum_over_all_flattenings(network):
  count = len(network)
  largest = math.sqrt((count + 1) ** (count + 1) / count**count)
  p = math.log(count + 1) / math.log(largest)
  total = sum(size**p for size in flattenings(network))
  assert networks.norm(network) == pytest.approx(total ** (1 / p))


@pytest.mark.parametrize('count', [2, 3, 4])
def test_norm_of_a_product_of_square_matrices(count):
  """Against the largest singular values of matrices that are multiplied."""
  size = 400
  names = ['i', *(f'k_{n}' for n in range(1, count)), 'j']
  network = {
    f'factor_{n}': dict.fromkeys(names[n : n + 2], size) for n in range(count)
  }
  random = np.random.default_rng(0)
  found = np.linalg.multi_dot(random.normal(size=(count, size, size)))
  # Flattenings that are not the largest add some percent.
  expected = pytest.approx(networks.norm(network), rel=0.08)
  assert np.linalg.norm(found, 2) == expected


@pytest.mark.parametrize('network', [LOW_RANK, TRAIN, SHARED])
def test_an_entry_sums_over_terms(network):
  random = np.random.default_rng(0)
  drawn = np.stack([matrix(network, random) for _ in range(400)])
  assert np.var(drawn) == pytest.approx(networks.num_terms(network), rel=0.15)
