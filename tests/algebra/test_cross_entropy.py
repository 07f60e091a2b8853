"""Losses in blocks against their definition, in values, gradients, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import blocks, cross_entropy

ROWS, COLS, TOKENS = 10, 4, 7


def project(shared, common, x, others):
  matrix, bias = shared
  return (x @ matrix.astype(x.dtype).T).astype(jnp.float32) + bias[None]


def by_tokens(count):
  def compute(matrix, bias, x, targets, weights, smoothing):
    return cross_entropy.by_tokens(
      project,
      (matrix, bias),
      x,
      targets,
      weights,
      smoothing=smoothing,
      num_blocks=count,
    )

  return compute


def by_rows(count):
  def compute(matrix, bias, x, targets, weights, smoothing):
    is_row = blocks.split(jnp.ones((len(matrix), 1), bool), count)
    slices = blocks.split(matrix, count), is_row
    # What is behind the last row must not count, whatever it is.
    make_block = lambda piece: jnp.where(piece[1], piece[0], 9.0)
    return cross_entropy.by_rows(
      make_block,
      slices,
      bias,
      x,
      targets,
      weights,
      rows=len(matrix),
      smoothing=smoothing,
    )

  return compute


WAYS = {
  **{f'tokens-{n}': by_tokens(n) for n in (1, 3, 7, 20)},
  **{f'rows-{n}': by_rows(n) for n in (1, 3, 5)},
}
ways = pytest.mark.parametrize('compute', WAYS.values(), ids=list(WAYS))


def make(dtype=np.float32, rows=ROWS, cols=COLS, tokens=TOKENS):
  random = np.random.default_rng(0)
  normal = lambda *shape: random.normal(size=shape)
  weights = random.uniform(size=tokens) * (np.arange(tokens) != 1)
  return (
    jnp.asarray(normal(rows, cols), jnp.float32),
    jnp.asarray(normal(rows), jnp.float32),
    jnp.asarray(normal(tokens, cols), dtype),
    jnp.asarray(random.integers(0, rows, tokens), jnp.int32),
    jnp.asarray(weights, jnp.float32),
  )


def expected(matrix, bias, x, targets, weights, smoothing):
  """(value, its gradients by W, bias, x, weights), in float64."""
  matrix, bias, x, weights = (
    np.asarray(a, np.float64) for a in (matrix, bias, x, weights)
  )
  logits = x @ matrix.T + bias
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  q = (1 - smoothing) * np.eye(len(matrix))[targets] + smoothing / len(matrix)
  losses = -np.sum(q * np.log(p), axis=1)
  d = weights[:, None] * (p - q)
  return losses @ weights, (d.T @ x, d.sum(axis=0), d @ matrix, losses)


def differentiated(compute, smoothing):
  loss = lambda *arguments: compute(*arguments, smoothing)
  return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 4)))


def check(found, value, gradients, tolerance=1e-5):
  np.testing.assert_allclose(found[0], value, rtol=tolerance)
  for ours, theirs in zip(found[1], gradients, strict=True):
    error = np.linalg.norm(np.asarray(ours, np.float64) - theirs)
    assert error <= tolerance * np.linalg.norm(theirs)


@ways
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_loss_and_gradients_are_the_definition(compute, smoothing):
  arguments = make()
  value, gradients = expected(*arguments, smoothing)
  np.testing.assert_allclose(
    jax.jit(compute, static_argnums=5)(*arguments, smoothing), value, rtol=1e-5
  )
  check(differentiated(compute, smoothing)(*arguments), value, gradients)


@ways
def test_gradients_scale_with_the_cotangent(compute):
  arguments = make()
  value, gradients = expected(*arguments, 0.0)
  doubled = lambda *arguments: 2 * compute(*arguments)
  found = differentiated(doubled, 0.0)(*arguments)
  check(found, 2 * value, [2 * gradient for gradient in gradients])


@pytest.mark.parametrize('count', [1, 3])
def test_logits_without_a_bias(count):
  matrix, bias, *others = make()
  value, gradients = expected(matrix, 0 * bias, *others, 0.1)
  without = by_rows(count)
  loss = lambda matrix, *others: without(matrix, None, *others, 0.1)
  found = jax.jit(jax.value_and_grad(loss, (0, 1)))(matrix, *others)
  check(found, value, [gradients[0], gradients[2]])


@pytest.mark.parametrize('compute', [by_tokens(3), by_rows(3)])
def test_only_products_are_in_bfloat16(compute):
  """256 equal logits have a loss of log(256), to more than 8 bits."""
  matrix, x = jnp.zeros((256, 2)), jnp.ones((4, 2), jnp.bfloat16)
  bias, targets = jnp.zeros(256), jnp.arange(4)
  weights = jnp.full(4, 1 + 2**-10)
  value, gradients = expected(matrix, bias, x, targets, weights, 0.1)
  found = differentiated(compute, 0.1)(matrix, bias, x, targets, weights)
  assert found[1][0].dtype == jnp.float32 and found[1][2].dtype == jnp.bfloat16
  check(found, value, gradients, 1e-2)
  np.testing.assert_allclose(found[0], value, rtol=1e-6)
  arguments = make(jnp.bfloat16)
  found = differentiated(compute, 0.1)(*arguments)
  check(found, *expected(*arguments, 0.1), 2e-2)


@pytest.mark.parametrize('compute', [by_tokens(256), by_rows(256)])
def test_sums_over_blocks_are_not_rounded_to_bfloat16(compute):
  """Gradients from one block are 256 times those of each of the others."""
  size = 257
  matrix = jnp.zeros((size, 1)).at[0].set(-256.0).at[1:].set(1.0)
  arguments = (
    matrix,
    jnp.zeros(size),
    jnp.ones((size, 1), jnp.bfloat16),
    jnp.zeros(size, jnp.int32),
    jnp.ones(size).at[0].set(256.0),
  )
  found = differentiated(compute, 0.0)(*arguments)
  check(found, *expected(*arguments, 0.0), 5e-3)


@ways
@pytest.mark.parametrize('is_marked', [False, True])
def test_eight_devices(compute, is_marked):
  """Tokens are split; parameters are marked as varying, or JAX sums for us."""
  arguments = make(tokens=24)
  axes = jax.sharding.AxisType.Auto
  mesh = jax.make_mesh((8,), ('data',), axis_types=(axes,))
  spec = jax.sharding.PartitionSpec

  def local(shared, tokens):
    if is_marked:
      shared = jax.lax.pcast(shared, 'data', to='varying')
    loss = lambda shared, tokens: compute(*shared, *tokens, 0.1)
    value, gradients = jax.value_and_grad(loss)(shared, tokens)
    value = jax.lax.psum(value, 'data')
    return value, jax.lax.psum(gradients, 'data') if is_marked else gradients

  sharded = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(spec(), spec('data')),
    out_specs=spec(),
    axis_names={'data'},
  )
  found = jax.jit(sharded)(arguments[:2], arguments[2:])
  value, gradients = expected(*arguments, 0.1)
  check(found, value, gradients[:2])


@pytest.mark.parametrize('is_differentiated', [False, True])
@pytest.mark.parametrize('compute', [by_tokens(16), by_rows(16)])
def test_memory_is_less_than_that_of_all_logits(compute, is_differentiated):
  tokens, rows = 512, 1024
  arguments = make(rows=rows, cols=16, tokens=tokens)
  loss = functools.partial(compute, smoothing=0.1)
  function = jax.jit(jax.grad(loss, (0, 1, 2)) if is_differentiated else loss)
  analysis = function.lower(*arguments).compile().memory_analysis()
  assert 0 < analysis.temp_size_in_bytes < 4 * tokens * rows / 2


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_losses_of_logits_are_the_definition(smoothing):
  random = np.random.default_rng(0)
  logits = random.normal(size=(2, 3, 5)).astype(np.float32)
  targets = random.integers(0, 5, (2, 3))
  found = cross_entropy.of_logits(logits, targets, smoothing)
  for b in range(2):
    for t in range(3):
      q = np.full(5, smoothing / 5)
      q[targets[b, t]] += 1 - smoothing
      log_p = logits[b, t] - np.log(np.exp(logits[b, t]).sum())
      np.testing.assert_allclose(found[b, t], -q @ log_p, rtol=1e-5)


def test_what_comes_with_tokens_goes_with_their_blocks():
  """Keys, which cannot be zeros, of five examples in two blocks."""
  keys = jax.random.split(jax.random.key(0), 5)
  draw = lambda key: jax.random.normal(key, (3, ROWS))
  targets = jnp.arange(15).reshape(5, 3) % ROWS
  shared = jnp.float32(2.0)

  def loss(shared):
    return cross_entropy.by_tokens(
      lambda shared, common, x, keys: (
        shared * jax.vmap(draw)(keys) * common[None, None]
      ),
      shared,
      jnp.zeros((5, 3, 1)),
      targets,
      jnp.ones((5, 3)),
      common=jnp.arange(ROWS, dtype=jnp.float32),
      others=keys,
      num_blocks=2,
    )

  logits = 2 * np.asarray(jax.vmap(draw)(keys), np.float64) * np.arange(ROWS)
  p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  q = np.eye(ROWS)[targets]
  value, gradient = jax.value_and_grad(loss)(shared)
  np.testing.assert_allclose(value, -np.sum(q * np.log(p)), rtol=1e-5)
  np.testing.assert_allclose(gradient, np.sum((p - q) * logits) / 2, rtol=1e-5)


def test_numbers_of_blocks():
  assert cross_entropy.token_blocks(0) == 1
  assert cross_entropy.token_blocks(1000) == 1
  assert cross_entropy.token_blocks(2**40) > 1
  assert cross_entropy.row_blocks(0, 100) == 1
  assert cross_entropy.row_blocks(2**40, 1024) == 8
