import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import contractions, cost, trains

TRAINS = {
  'one': ((6,), (4,), (1, 1)),
  'two': ((3, 4), (2, 5), (1, 3, 1)),
  'three': ((3, 2, 4), (2, 3, 2), (1, 2, 5, 1)),
  'four': ((2, 1, 3, 2), (1, 2, 1, 3), (1, 2, 3, 2, 1)),
}


def make_cores(name, seed=0):
  row_modes, col_modes, rank = TRAINS[name]
  rng = np.random.default_rng(seed)
  return [
    rng.normal(size=shape).astype(np.float32)
    for shape in zip(rank[:-1], row_modes, col_modes, rank[1:], strict=True)
  ]


def brute_force(cores):
  """W[i, j] = G_1[i_1, j_1] ... G_N[i_N, j_N], element by element."""
  rows = list(itertools.product(*(range(c.shape[1]) for c in cores)))
  cols = list(itertools.product(*(range(c.shape[2]) for c in cores)))
  result = np.zeros((len(rows), len(cols)))
  for i, row in enumerate(rows):
    for j, col in enumerate(cols):
      product = np.eye(1)
      for core, m, n in zip(cores, row, col, strict=True):
        product = product @ core[:, m, n, :].astype(np.float64)
      result[i, j] = product[0, 0]
  return result


def every_contraction(shapes):
  inner = range(1, len(shapes))
  for count in range(len(shapes)):
    for cuts in itertools.combinations(inner, count):
      groups = tuple(itertools.pairwise((0, *cuts, len(shapes))))
      for from_left, blocks in itertools.product((True, False), (1, 2)):
        yield contractions.Contraction(groups, from_left, cost.Cost(), blocks)


def device_cores(cores):
  return [jnp.asarray(core) for core in cores]


def close(ours, theirs, tolerance=1e-5):
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', TRAINS)
def test_full_is_the_definition(name):
  cores = make_cores(name)
  close(trains.full(device_cores(cores)), brute_force(cores))


@pytest.mark.parametrize('name', TRAINS)
def test_transpose(name):
  cores = device_cores(make_cores(name))
  close(trains.full(trains.transpose(cores)), trains.full(cores).T)


@pytest.mark.parametrize('name', TRAINS)
def test_every_contraction_gives_the_same(name, monkeypatch):
  cores = make_cores(name)
  matrix = brute_force(cores)
  x = np.random.default_rng(1).normal(size=(3, len(matrix)))
  ids = np.array([[0, 2, len(matrix) - 1], [1, 1, 2]])
  cores = device_cores(cores)
  for chosen in every_contraction(tuple(core.shape for core in cores)):
    monkeypatch.setattr(
      contractions, 'for_apply', lambda *_, chosen=chosen: chosen
    )
    monkeypatch.setattr(
      contractions, 'for_rows', lambda *_, chosen=chosen: chosen
    )
    both = jax.jit(lambda c, x, i: (trains.apply(c, x), trains.rows(c, i)))
    product, rows = both(cores, jnp.asarray(x, jnp.float32), jnp.asarray(ids))
    close(product, x @ matrix)
    close(rows, matrix[ids])


@pytest.mark.parametrize('shape', [(), (0,), (2, 0, 3), (1, 1)])
def test_batches_of_any_shape(shape):
  cores = device_cores(make_cores('three'))
  matrix = trains.full(cores)
  x = jnp.ones((*shape, matrix.shape[0]))
  product = jax.eval_shape(trains.apply, cores, x)
  assert product.shape == (*shape, matrix.shape[1])
  rows = jax.eval_shape(trains.rows, cores, jnp.ones(shape, jnp.int32))
  assert rows.shape == (*shape, matrix.shape[1])


def test_contractions_follow_the_number_of_tokens():
  shapes = ((1, 32, 8, 64), (64, 32, 8, 64), (64, 32, 16, 1))
  chain = ((0, 1), (1, 2), (2, 3))
  assert contractions.for_apply(shapes, 1).groups == chain
  assert contractions.for_apply(shapes, 4096).groups == ((0, 3),)
  assert contractions.for_rows(shapes, 8).groups == chain
  # A table of the first two cores, not the matrix.
  assert contractions.for_rows(shapes, 4096).groups == ((0, 2), (2, 3))


def test_small_ranks_are_never_made_full():
  shapes = (
    (1, 2, 4, 2),
    (2, 4, 4, 2),
    (2, 8, 8, 2),
    (2, 4, 4, 2),
    (2, 2, 4, 1),
  )
  for tokens in (1, 16, 256, 4096):
    assert len(contractions.for_apply(shapes, tokens).groups) > 1


def test_lookup_makes_the_matrix_only_where_it_is_small():
  shapes = ((1, 25, 4, 16), (16, 30, 8, 16), (16, 40, 8, 1))
  assert len(contractions.for_rows(shapes, 64).groups) > 1
  assert contractions.for_rows(shapes, 10**6).groups == ((0, 3),)


def test_merging_counts_the_cheaper_side_first():
  # Ranks 2 and 50: contracting over 50 first leaves the small rank for last.
  assert (
    contractions.merge_cut(((1, 4, 4, 50), (50, 4, 4, 2), (2, 4, 4, 1))) == 2
  )
  assert (
    contractions.merge_cut(((1, 4, 4, 2), (2, 4, 4, 50), (50, 4, 4, 1))) == 1
  )


def test_apply_multiplies_in_the_dtype_of_x():
  cores = device_cores(make_cores('three'))
  x = jnp.ones((2, 24), jnp.bfloat16)
  assert jax.eval_shape(trains.apply, cores, x).dtype == jnp.bfloat16
  loss = lambda c: trains.apply(c, x).astype(jnp.float32).sum()
  for gradient in jax.eval_shape(jax.grad(loss), cores):
    assert gradient.dtype == jnp.float32
