"""Lookups of different ids against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import distinct

ROWS, TOKENS = 50, 16


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setattr(distinct, '_LEAST', TOKENS)


def look_up(factors, ids):
  """Rows that are no linear function of the factors."""
  return factors['left'][ids % 7] * jnp.sin(factors['right'])[ids // 7]


def draw(number, seed=0):
  """Ids of which so many differ, in an order of no kind."""
  rng = np.random.default_rng(seed)
  different = rng.permutation(ROWS)[:number]
  rest = rng.choice(different, TOKENS - number)
  return jnp.asarray(rng.permutation(np.concatenate([different, rest])))


def make_factors():
  keys = jax.random.split(jax.random.key(0))
  return {
    'left': jax.random.normal(keys[0], (7, 3)),
    'right': jax.random.normal(keys[1], (8, 3)),
  }


# Around 5 and 8, where another branch is taken.
@pytest.mark.parametrize('number', [1, 4, 5, 6, 8, 9, 15, 16])
def test_rows_and_gradients(number):
  factors, ids = make_factors(), draw(number)
  weights = jax.random.normal(jax.random.key(1), (TOKENS, 3))
  loss = lambda rows: jnp.sum(jnp.tanh(rows) * weights)
  plain = lambda f: loss(look_up(f, ids))
  found = jax.jit(lambda f: distinct.rows(look_up, f, ids, ROWS))
  np.testing.assert_array_equal(found(factors), look_up(factors, ids))
  expected = jax.grad(plain)(factors)
  mine = jax.jit(jax.grad(lambda f: loss(found(f))))(factors)
  for name, array in expected.items():
    np.testing.assert_allclose(mine[name], array, rtol=1e-5, atol=1e-6)


def test_a_row_is_computed_once():
  """Of up to 5/16 of different ids, look_up gets so many."""
  sizes = []

  def watch(factors, ids):
    sizes.append(ids.size)
    return look_up(factors, ids)

  jax.make_jaxpr(lambda f: distinct.rows(watch, f, draw(4), ROWS))(
    make_factors()
  )
  assert sorted(set(sizes)) == [5, 8, 16]


def test_few_ids_are_looked_up_as_they_are():
  ids = draw(5)[: TOKENS - 1]
  text = str(
    jax.make_jaxpr(lambda f: distinct.rows(look_up, f, ids, ROWS))(
      make_factors()
    )
  )
  assert 'cond' not in text and 'custom_vjp' not in text


@pytest.mark.parametrize('num_rows', [5, 50])
def test_sums_of_equal_ids(num_rows):
  draw = np.random.default_rng(num_rows)
  ids = draw.integers(0, num_rows, 12, np.int32)
  values = draw.normal(size=(12, 3)).astype(np.float32)
  found, sums = distinct.sums(jnp.asarray(ids), jnp.asarray(values), num_rows)
  assert found.shape == (min(12, num_rows),)
  expected = np.unique(ids)
  unused = len(found) - len(expected)
  assert found.tolist() == [*expected, *unused * [num_rows]]
  for id, total in zip(found.tolist(), sums, strict=True):
    np.testing.assert_allclose(total, values[ids == id].sum(0), atol=1e-6)
