import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import contractions, rings

SHAPES = {
  'one': [(3, 4, 5, 3)],
  'two': [(2, 3, 2, 3), (3, 2, 4, 2)],
  'three': [(2, 3, 2, 3), (3, 2, 2, 4), (4, 2, 3, 2)],
}


def make(name):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES[name]]


def brute_force(cores):
  """W[i, j] = trace(G_1[i_1, j_1] ... G_N[i_N, j_N]), entry by entry."""
  rows = list(itertools.product(*(range(c.shape[1]) for c in cores)))
  cols = list(itertools.product(*(range(c.shape[2]) for c in cores)))
  result = np.zeros((len(rows), len(cols)))
  for i, row in enumerate(rows):
    for j, col in enumerate(cols):
      pieces = [
        core[:, m, n, :].astype(np.float64)
        for core, m, n in zip(cores, row, col, strict=True)
      ]
      result[i, j] = np.trace(functools.reduce(np.matmul, pieces))
  return result


@pytest.mark.parametrize('room', [0, 10**9], ids=['chained', 'merged'])
@pytest.mark.parametrize('name', SHAPES)
def test_both_ways_are_the_definition(name, room, monkeypatch):
  """Whether there is room for the merged halves or not."""
  monkeypatch.setattr(contractions, 'merging_room', lambda *_: room)
  cores = make(name)
  matrix = brute_force(cores)
  x = np.random.default_rng(1).normal(size=(2, 3, len(matrix)))
  y = np.random.default_rng(2).normal(size=(4, matrix.shape[1]))
  ids = np.array([[0, len(matrix) - 1], [1, 1]])
  if name == 'one' and room == 0:
    pytest.skip('a ring of one core has no halves')

  def compute(cores, x, y, ids):
    return (
      rings.full(cores),
      rings.apply(cores, x),
      rings.attend(cores, y),
      rings.rows(cores, ids),
    )

  found = jax.jit(compute)(
    [jnp.asarray(core) for core in cores],
    jnp.asarray(x, jnp.float32),
    jnp.asarray(y, jnp.float32),
    jnp.asarray(ids),
  )
  expected = matrix, x @ matrix, y @ matrix.T, matrix[ids]
  for ours, theirs in zip(found, expected, strict=True):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize('cut', [1, 2])
def test_a_ring_is_a_train_of_two_cores_wherever_it_is_cut(cut):
  cores = [jnp.asarray(core) for core in make('three')]
  left, right = rings.train(cores, cut)
  matrix = jnp.einsum('amnr,rpqb->mpnq', left, right)
  expected = brute_force(make('three'))
  np.testing.assert_allclose(
    matrix.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4
  )
