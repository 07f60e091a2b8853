"""Layers split over a mesh: same numbers, and what devices exchange for it."""

import re

import jax
import numpy as np
import pytest

from tests.training import tiny


def relative(first, second):
  """The distance of two sets of parameters over the norm of one."""
  squares = lambda tree: sum(np.sum(a**2.0) for a in jax.tree.leaves(tree))
  apart = jax.tree.map(np.subtract, first.params, second.params)
  return np.sqrt(squares(apart) / squares(second.params))


@pytest.mark.parametrize(
  'kind, data, model',
  [
    ('dense', 8, 1),
    ('dense', 4, 2),
    ('train', 8, 1),
    ('train', 4, 2),
    ('train', 2, 4),  # two heads for four devices
    ('kronecker', 4, 2),
    ('word2ketxs', 4, 2),
  ],
)
def test_meshes_train_as_one_device(kind, data, model):
  one, many = tiny.train(kind), tiny.train(kind, data, model)
  assert one.losses[-1] < one.losses[0] - 0.05  # it did train
  np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5)
  assert relative(many, one) < 1e-5


@pytest.mark.parametrize('dropout, accumulation', [(0.3, 1), (0.0, 4)])
def test_noise_and_accumulation(dropout, accumulation):
  one = tiny.train(dropout=dropout)
  many = tiny.train('train', 2, 2, accumulation=accumulation, dropout=dropout)
  np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5)
  assert relative(many, one) < 1e-5


@pytest.mark.parametrize('kind', ['dense', 'train', 'kronecker'])
def test_what_travels(kind):
  trained = tiny.train(kind, 4, 2)
  assert trained.local_params < 0.9 * trained.num_params
  data, model = 0, []
  for operation, sizes, line in tiny.collectives(trained.program):
    if re.search(r'op_name="[^"]*psum', line):
      data += sum(sizes)
    else:
      model += [(operation, size) for size in sizes]
  # Over the data: the gradients of what a device has.
  assert data <= 1.05 * 4 * trained.local_params
  assert data == pytest.approx(4 * (trained.local_params + 2), rel=0.01)
  # Within a layer: sums of activations, never larger, and no logits.
  tokens = tiny.ROWS // 4 * tiny.LENGTH
  assert max(size for _, size in model) <= 4 * tokens * tiny.DIM
  gathered = [size for name, size in model if name != 'all-reduce']
  assert sum(gathered) < 256
