"""What every parameterization promises, as functions of a spec.

A fast body is compared with the slow one of the base class, in values and in
gradients. `check_all` is for specs that are not in the registry.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.parameterizations import base

DTYPES = (jnp.float32, jnp.bfloat16)
# Largest error of an array as a fraction of its norm; bfloat16 has 8 bits.
TOLERANCE = {jnp.dtype('float32'): 1e-5, jnp.dtype('bfloat16'): 2e-2}


def close(ours, theirs, tolerance):
  """Compares trees of arrays by the relative error of each array."""
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
  for a, b in pairs:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    error = np.linalg.norm(a - b)
    assert error <= tolerance * np.linalg.norm(b), error


@functools.cache
def draw(spec):
  """A compiled function: key -> factors of standard deviation 0.5, matrix."""

  def make(key):
    factors = spec.init(key, std=0.5)
    return factors, spec.full(factors)

  return jax.jit(make)


@functools.cache
def start(spec):
  """The factors that the checks compute with, and their full matrix."""
  factors, full = draw(spec)(jax.random.key(0))
  close(draw(spec)(jax.random.key(0)), (factors, full), 0)
  return factors, np.asarray(full)


def trained(spec, gradients):
  """Zeros in place of the gradients of buffers, which nobody uses."""
  is_buffer = lambda path: base.join(path) in spec.buffers
  return jax.tree_util.tree_map_with_path(
    lambda path, a: jnp.zeros_like(a) if is_buffer(path) else a, gradients
  )


def check_shapes(spec):
  shape = lambda function, *arguments: jax.eval_shape(function, *arguments)
  ones = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
  factors = shape(lambda: spec.init(jax.random.key(0), std=1.0))
  half = lambda: spec.init(jax.random.key(0), std=1.0, dtype=jnp.bfloat16)
  floating = lambda a: jnp.issubdtype(a.dtype, jnp.floating)
  for leaf in filter(floating, jax.tree.leaves(factors)):
    assert leaf.dtype == jnp.float32
  for leaf in filter(floating, jax.tree.leaves(shape(half))):
    assert leaf.dtype == jnp.bfloat16
  assert shape(spec.full, factors).shape == (spec.rows, spec.cols)
  for batch in ((), (4,), (2, 0), (2, 1, 3)):
    ids = jax.ShapeDtypeStruct(batch, jnp.int32)
    assert shape(spec.take, factors, ids).shape == (*batch, spec.cols)
    result = shape(spec.apply, factors, ones(*batch, spec.rows))
    assert result.shape == (*batch, spec.cols)
    result = shape(spec.attend, factors, ones(*batch, spec.cols))
    assert result.shape == (*batch, spec.rows)


def check_paths(spec):
  """Factors are nested dicts with string keys; buffers name some of them."""
  factors, _ = start(spec)
  leaves, _ = jax.tree_util.tree_flatten_with_path(factors)
  for path, _ in leaves:
    for entry in path:
      assert isinstance(entry, jax.tree_util.DictKey)
      assert isinstance(entry.key, str) and '/' not in entry.key
  sizes = {base.join(path): leaf.size for path, leaf in leaves}
  assert set(spec.buffers) <= set(sizes)
  assert spec.num_params == sum(
    size for path, size in sizes.items() if path not in spec.buffers
  )
  assert spec.compression_ratio == spec.rows * spec.cols / spec.num_params


def check_std(spec, draws=300):
  keys = jax.random.split(jax.random.key(1), draws)
  matrices = np.stack([np.asarray(draw(spec)(key)[1]) for key in keys])
  assert abs(matrices.mean()) < 0.05 * 0.5
  np.testing.assert_allclose(matrices.std(), 0.5, rtol=0.1)


def check_take(spec):
  factors, full = start(spec)
  ids = jnp.array([[0, 1, spec.rows - 1], [-1, 1, -spec.rows]])
  weights = jax.random.normal(jax.random.key(7), (*ids.shape, spec.cols))

  def loss(take, factors):
    taken = take(factors, ids)
    return jnp.sum(weights * taken), taken

  slow = functools.partial(base.Parameterization.take, spec)
  _compare(spec, jnp.float32, [(loss, spec.take, slow, (factors,))])
  # Beyond the ends: the nearest row, as in indexing; some batch is empty.
  take = jax.jit(spec.take)
  beyond = jnp.array([spec.rows, 5 * spec.rows, -2 * spec.rows])
  close(take(factors, beyond), full[[-1, -1, 0]], 1e-5)
  assert take(factors, jnp.zeros((2, 0), jnp.int32)).shape == (2, 0, spec.cols)


def check_products(spec, dtype):
  factors, _ = start(spec)
  x_key, weights_key = jax.random.split(jax.random.key(11))
  cases = []
  for method, size, out in (
    ('apply', spec.rows, spec.cols),
    ('attend', spec.cols, spec.rows),
  ):
    x = jax.random.normal(x_key, (2, 3, size), dtype)
    weights = jax.random.normal(weights_key, (2, 3, out))

    def loss(product, factors, x, weights=weights):
      y = product(factors, x)
      return jnp.sum(weights * y.astype(jnp.float32)), y

    slow = functools.partial(getattr(base.Parameterization, method), spec)
    cases.append((loss, getattr(spec, method), slow, (factors, x)))
  for y in _compare(spec, dtype, cases):
    assert y.dtype == dtype


def _compare(spec, dtype, cases):
  """Values and gradients of fast and slow, compiled together; the values."""

  def compute(arguments):
    results = []
    for (loss, fast, slow, _), argument in zip(cases, arguments, strict=True):
      for function in (fast, slow):
        numbers = tuple(range(len(argument)))
        gradient = jax.grad(
          functools.partial(loss, function), numbers, has_aux=True
        )
        results.append(gradient(*argument))
    return results

  results = jax.jit(compute)([arguments for *_, arguments in cases])
  tidy = lambda result: (trained(spec, result[0][0]), *result[0][1:], result[1])
  tolerance = TOLERANCE[jnp.dtype(dtype)]
  for ours, theirs in zip(results[::2], results[1::2], strict=True):
    close(tidy(ours), tidy(theirs), tolerance)
  return [value for _, value in results[::2]]


def check_vmap(spec):
  """One call over several sets of factors, as in an ensemble."""
  factors, full = start(spec)
  several = jax.tree.map(lambda a: jnp.stack([a, a]), factors)
  x = np.random.default_rng(0).normal(size=(2, 3, spec.rows)).astype('float32')
  ids = np.array([[0, 1], [1, spec.rows - 1]])
  both = lambda f, x, i: (spec.apply(f, x), spec.take(f, i))
  product, rows = jax.jit(jax.vmap(both))(several, x, ids)
  close(product, x @ full, 1e-5)
  close(rows, full[ids], 1e-5)


def check_defaults(spec):
  factors, _ = start(spec)
  penalty = spec.penalty(factors)
  assert penalty.shape == () and jnp.isfinite(penalty)
  projected = jax.jit(spec.project)(factors, jnp.zeros((), jnp.int32))
  assert jax.tree.structure(projected) == jax.tree.structure(factors)
  numbers, bits = spec.stored_size(factors)
  assert isinstance(numbers, int) and isinstance(bits, int)
  largest = sum(a.size for a in jax.tree.leaves(factors))
  assert 0 < numbers <= largest and 0 < bits <= 32 * largest


def check_fit(spec, tolerance=1e-5):
  """Fitting what the factors can be gives factors of the same kind."""
  factors, full = start(spec)
  fitted = spec.fit(full)
  kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert kind(fitted) == kind(factors)
  close(np.asarray(jax.jit(spec.full)(fitted)), full, tolerance)


def check_spec(spec):
  """Specs are values: rebuilt from their fields they are the same."""
  again = dataclasses.replace(spec)
  assert again == spec and hash(again) == hash(spec)


CHECKS = (
  check_shapes,
  check_paths,
  check_std,
  check_take,
  check_vmap,
  check_defaults,
  check_spec,
)


def check_all(spec, fit_tolerance=1e-5):
  """Everything above; fit_tolerance=None leaves `fit` out."""
  for check in CHECKS:
    check(spec)
  for dtype in DTYPES:
    check_products(spec, dtype)
  if fit_tolerance is not None:
    check_fit(spec, fit_tolerance)
