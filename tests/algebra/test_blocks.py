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


def test_blocks_inside_a_shard_map():
  """Parameters there vary over the devices, and so must the sum."""
  mesh = jax.make_mesh(
    (2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec
  make_block, matrix, slices = make(3)

  def local(slices, x):
    slices = jax.lax.pcast(slices, 'data', to='varying')

    def loss(slices):
      y = blocks.apply(make_block, slices, x)
      return jnp.sum(blocks.attend(make_block, slices, y)[:, :ROWS] ** 2)

    return jax.lax.psum(jax.value_and_grad(loss)(slices), 'data')

  sharded = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(spec(), spec('data')),
    out_specs=spec(),
    axis_names={'data'},
  )
  x = jax.random.normal(jax.random.key(0), (4, ROWS))
  value, gradient = jax.jit(sharded)(slices, x)

  def loss(slices):
    matrix = make_block(slices.reshape(-1, 3))[:ROWS]
    return jnp.sum((x @ matrix @ matrix.T) ** 2)

  expected = jax.value_and_grad(loss)(slices)
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-3)


def test_number_of_blocks():
  assert blocks.num_blocks(1000, 64) == 1
  assert blocks.num_blocks(32768, 1024) == 32
  # Rows that are larger than a block are made one by one.
  assert blocks.num_blocks(7, 2**21) == 7
