import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import blocks

ROWS, COLS = 10, 4


def make(count, dtype=jnp.float32):
  """W = tanh(A) B [10, 4] by blocks, whole, and its slices."""
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.normal(size=(ROWS, 3)), dtype)
  b = jnp.asarray(rng.normal(size=(3, COLS)), dtype)
  return lambda a: jnp.tanh(a) @ b, jnp.tanh(a) @ b, blocks.split(a, count)


@pytest.mark.parametrize('count', [1, 3, 5, 10])
@pytest.mark.parametrize('batch', [(), (2,), (2, 3)])
def test_products_are_those_of_the_matrix(count, batch):
  make_block, matrix, slices = make(count)
  assert slices.shape == (count, -(-ROWS // count), 3)
  rng = np.random.default_rng(1)
  x = rng.normal(size=(*batch, ROWS)).astype('float32')
  y = rng.normal(size=(*batch, COLS)).astype('float32')
  product = blocks.apply(make_block, slices, jnp.asarray(x))
  np.testing.assert_allclose(product, x @ matrix, rtol=1e-5, atol=1e-5)
  logits = blocks.attend(make_block, slices, jnp.asarray(y))
  assert logits.shape == (*batch, count * slices.shape[1])
  np.testing.assert_allclose(
    logits[..., :ROWS], y @ matrix.T, rtol=1e-5, atol=1e-5
  )


def test_batches_may_be_empty():
  make_block, _, slices = make(3)
  product = blocks.apply(make_block, slices, jnp.ones((2, 0, ROWS)))
  assert product.shape == (2, 0, COLS)
  logits = blocks.attend(make_block, slices, jnp.ones((2, 0, COLS)))
  assert logits.shape == (2, 0, 12)


def test_products_have_the_dtype_of_x():
  make_block, _, slices = make(3)
  for product, size in ((blocks.apply, ROWS), (blocks.attend, COLS)):
    x = jnp.ones((2, size), jnp.bfloat16)
    assert product(make_block, slices, x).dtype == jnp.bfloat16
    loss = lambda s, p=product, x=x: p(make_block, s, x).astype('float32').sum()
    assert jax.grad(loss)(slices).dtype == jnp.float32


def test_the_sum_over_blocks_is_not_rounded_to_the_dtype_of_x():
  """256 + 1 + ... + 1 stays 256 where every sum is rounded to bfloat16."""
  slices = jnp.ones((257, 1, 1))
  x = jnp.ones((257,), jnp.bfloat16).at[0].set(256)
  assert blocks.apply(lambda s: s, slices, x) == 512


def over_two_devices(local):
  """A function of arrays that both have and of rows that they share."""
  mesh = jax.make_mesh(
    (2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec
  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(spec(), spec('data')),
    out_specs=spec(),
    axis_names={'data'},
  )


def test_blocks_inside_a_shard_map():
  """Parameters there vary over the devices, and so must the sum."""
  make_block, matrix, slices = make(3)

  def local(slices, x):
    slices = jax.lax.pcast(slices, 'data', to='varying')

    def loss(slices):
      y = blocks.apply(make_block, slices, x)
      return jnp.sum(blocks.attend(make_block, slices, y)[:, :ROWS] ** 2)

    return jax.lax.psum(jax.value_and_grad(loss)(slices), 'data')

  sharded = over_two_devices(local)
  x = jax.random.normal(jax.random.key(0), (4, ROWS))
  value, gradient = jax.jit(sharded)(slices, x)

  def loss(slices):
    matrix = make_block(slices.reshape(-1, 3))[:ROWS]
    return jnp.sum((x @ matrix @ matrix.T) ** 2)

  expected = jax.value_and_grad(loss)(slices)
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-3)


def rows_of_tanh(shared, x):
  """Every row by itself: tanh(x A) + b."""
  return jnp.tanh(x @ shared['a']) + shared['b'][None]


def shared_and_x(size, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  shared = {
    'a': jax.random.normal(keys[0], (ROWS, COLS), dtype),
    'b': jax.random.normal(keys[1], (COLS,), dtype),
  }
  return shared, jax.random.normal(keys[2], (size, ROWS), dtype)


@pytest.mark.parametrize('count', [1, 3, 4, 7])
def test_rows_by_blocks_are_those_of_the_function(count):
  shared, x = shared_and_x(7)
  weights = np.arange(7 * COLS, dtype=np.float32).reshape(7, COLS)

  def loss(function, shared, x):
    y = function(shared, x)
    return jnp.sum(y * weights), y

  in_blocks = lambda shared, x: blocks.map_rows(rows_of_tanh, shared, x, count)
  gradients, y = jax.grad(loss, (1, 2), has_aux=True)(in_blocks, shared, x)
  expected, z = jax.grad(loss, (1, 2), has_aux=True)(rows_of_tanh, shared, x)
  np.testing.assert_allclose(y, z, rtol=1e-6)
  # Terms of a gradient are up to a hundred.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
    gradients,
    expected,
  )


def test_gradients_of_many_blocks_are_not_rounded_to_bfloat16():
  """256 + 1 + ... + 1 stays 256 where every sum is rounded to it."""
  shared, x = shared_and_x(257, jnp.bfloat16)
  weights = jnp.ones((257, COLS), jnp.bfloat16).at[0].set(256)

  def loss(shared):
    return jnp.sum(blocks.map_rows(rows_of_tanh, shared, x, 257) * weights)

  assert jnp.all(jax.grad(loss)(shared)['b'] == 512)


def test_rows_by_blocks_inside_a_shard_map():
  shared, x = shared_and_x(8)

  def loss(function, shared, x):
    return jnp.sum(function(shared, x) ** 2)

  def local(shared, x):
    shared = jax.lax.pcast(shared, 'data', to='varying')
    in_blocks = lambda s, x: blocks.map_rows(rows_of_tanh, s, x, 3)
    return jax.lax.psum(jax.grad(loss, 1)(in_blocks, shared, x), 'data')

  sharded = over_two_devices(local)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    jax.jit(sharded)(shared, x),
    jax.grad(loss, 1)(rows_of_tanh, shared, x),
  )


def test_number_of_blocks():
  assert blocks.num_blocks(1000, 64) == 1
  assert blocks.num_blocks(32768, 1024) == 32
  # Rows that are larger than a block are made one by one.
  assert blocks.num_blocks(7, 2**21) == 7
