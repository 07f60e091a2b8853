"""Rows from slices of tables, against sums over digits, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import distinct, lookups, trains

TOKENS = 16
# One digit, and two of a product of cores: 3 * (2 * 5) rows of 4 * 6 numbers.
ROWS = 30


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setattr(distinct, '_LEAST', TOKENS)


@pytest.fixture(params=[2**20, 300])
def blocks(request, monkeypatch):
  """All rows at once, or three of them."""
  monkeypatch.setattr(lookups, '_ROOM', {'cpu': request.param})


def draw(number, seed=0):
  """Ids of which so many differ, in an order of no kind."""
  rng = np.random.default_rng(seed)
  different = rng.permutation(ROWS)[:number]
  rest = rng.choice(different, TOKENS - number)
  return rng.permutation(np.concatenate([different, rest]))


def make_arrays(dtype=np.float32):
  rng = np.random.default_rng(1)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  return normal(24), [normal(1, 3, 4, 7), normal(7, 2, 3, 5, 2, 1)]


def multiply(shared, slices):
  left, right = slices
  rows = jnp.einsum('nrjs,nskt->njk', left, right)
  rows = rows.reshape(len(left), 24)
  return rows * shared[None]


def look_up(shared, cores, ids):
  return lookups.rows(multiply, shared, lookups.tables(cores), ids, 76)


def brute_force(shared, cores):
  """W[(a, b, c), (i, j, k)] = sum_s left[a, i, s] right[s, b, j, c, k] g."""
  left, right = (np.asarray(core, np.float64) for core in cores)
  matrix = np.einsum('ais,sbjck->abcijk', left[0], right[..., 0])
  return matrix.reshape(ROWS, 24) * np.asarray(shared, np.float64)


def expected_gradients(shared, cores, ids, weights):
  """Those of sum(W[ids] * weights), by the gradient of the matrix."""
  left, right = (np.asarray(core, np.float64) for core in cores)
  matrix = brute_force(np.ones(24), cores)
  of_matrix = np.zeros((ROWS, 24))
  np.add.at(of_matrix, ids, weights)
  of_shared = np.sum(of_matrix * matrix, 0)
  scaled = of_matrix * np.asarray(shared)
  scaled = scaled.reshape(3, 2, 5, 4, 3, 2)  # [a, b, c, i, j, k]
  of_left = np.einsum('abcijk,sbjck->ais', scaled, right[..., 0])
  of_right = np.einsum('abcijk,ais->sbjck', scaled, left[0])
  return of_shared, [of_left[None], of_right[..., None]]


def close(ours, theirs, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape
    atol = tolerance * abs(b).max()
    np.testing.assert_allclose(np.asarray(a, 'f8'), b, rtol=0, atol=atol)


# Around 5 and 8, where another branch is taken.
@pytest.mark.parametrize('number', [1, 5, 6, 8, 9, 16])
def test_rows_and_gradients(number, blocks):
  (shared, cores), ids = make_arrays(), draw(number)
  weights = np.random.default_rng(2).normal(size=(TOKENS, 24))

  @jax.jit
  def both(shared, cores, ids):
    loss = lambda rows: jnp.sum(rows * jnp.asarray(weights, rows.dtype))
    rows = look_up(shared, cores, ids)
    of = jax.grad(lambda *a: loss(look_up(*a, ids)), (0, 1))
    return rows, of(shared, cores)

  rows, gradients = both(shared, cores, jnp.asarray(ids))
  close(rows, brute_force(shared, cores)[ids])
  close(gradients, expected_gradients(shared, cores, ids, weights))


@pytest.mark.parametrize('number', [0, 1, TOKENS - 1, TOKENS + 1])
def test_any_number_of_ids(number, blocks):
  shared, cores = make_arrays()
  ids = np.arange(number) % 4
  rows = jax.jit(look_up)(shared, cores, jnp.asarray(ids, jnp.int32))
  assert rows.shape == (number, 24)
  if number:
    close(rows, brute_force(shared, cores)[ids])


def test_of_every_type(blocks):
  shared, cores = make_arrays(jnp.bfloat16)
  loss = lambda *a: jnp.sum(look_up(*a, jnp.asarray(draw(5))))
  value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(shared, cores)
  assert value.dtype == jnp.bfloat16
  ones = np.ones((TOKENS, 24))
  close(gradients, expected_gradients(shared, cores, draw(5), ones), 0.05)


def test_several_at_a_time(blocks):
  """Under vmap, with different numbers of different ids."""
  shared, cores = make_arrays()
  several = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), cores)
  ids = np.stack([draw(3), draw(16)])
  weights = np.ones((TOKENS, 24))
  of = jax.grad(lambda c, i: jnp.sum(look_up(shared, c, i)))
  both = lambda c, i: (look_up(shared, c, i), of(c, i))
  rows, gradients = jax.jit(jax.vmap(both))(several, jnp.asarray(ids))
  for k in range(2):
    one = [core[k] for core in several]
    close(rows[k], brute_force(shared, one)[ids[k]])
    mine = [gradient[k] for gradient in gradients]
    close(mine, expected_gradients(shared, one, ids[k], weights)[1])


def test_inside_a_shard_map(blocks):
  """Every device has its ids and its number of different ones."""
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec
  shared, cores = make_arrays()
  ids = np.concatenate([draw(2 * k + 1, seed=k) for k in range(8)])

  def local(cores, ids):
    rows = look_up(shared, cores, ids)
    own = jax.tree.map(
      lambda a: jax.lax.pcast(a, 'data', to='varying'), (shared, cores)
    )
    loss = lambda *arrays: jnp.sum(look_up(*arrays, ids))
    gradients = jax.grad(loss, (0, 1))(*own)
    return rows, jax.lax.psum(gradients, 'data')

  sharded = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(spec(), spec('data')),
    out_specs=(spec('data'), spec()),
  )
  rows, gradients = jax.jit(sharded)(cores, jnp.asarray(ids))
  close(rows, brute_force(shared, cores)[ids])
  ones = np.ones((len(ids), 24))
  close(gradients, expected_gradients(shared, cores, ids, ones))


def test_blocks_are_of_different_rows(monkeypatch):
  """One block for three different ids, two for five, of the same program."""
  monkeypatch.setattr(lookups, '_ROOM', {'cpu': 300})
  shared, cores = make_arrays()
  calls = []

  def watch(shared, slices):
    jax.debug.callback(lambda: calls.append(1))
    return multiply(shared, slices)

  tables = lookups.tables(cores)
  look_up = jax.jit(lambda ids: lookups.rows(watch, shared, tables, ids, 76))

  def count(number):
    calls.clear()
    jax.block_until_ready(look_up(jnp.asarray(draw(number))))
    jax.effects_barrier()
    return len(calls)

  assert count(5) == count(4) == count(3) + 1


@pytest.mark.parametrize('num_cols', [1, 5, 12])
def test_rows_of_trains_are_cut_and_finished(num_cols):
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  cores = [normal(1, 3, 2, 4), normal(4, 2, 3, 5), normal(5, 5, 2, 1)]
  right = normal(num_cols, 7)
  finish = lambda right, rows: jnp.sin(rows @ right)
  ids = jnp.asarray(draw(6).reshape(4, 4))
  matrix = np.einsum('aix,xbjy,yckz->abcijkz', cores[0][0], *cores[1:])
  expected = matrix.reshape(ROWS, 12)[np.asarray(ids)][..., :num_cols]
  close(trains.rows(cores, ids, num_cols), expected)
  rows = trains.rows(cores, ids, num_cols, finish=finish, shared=right)
  close(rows, np.sin(expected @ np.asarray(right)))
  none = trains.rows(cores, ids[:0], num_cols, finish=finish, shared=right)
  assert none.shape == (0, 4, 7)
