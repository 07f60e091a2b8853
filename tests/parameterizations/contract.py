"""What every parameterization promises, as functions of (spec, key).

A fast body is compared with the slow one of the base class, in values and in
gradients; `check_all` is for parameterizations that are not registered.
"""

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


def trained(spec, factors):
  """Factors with zeros for buffers, which have no gradients."""
  return jax.tree_util.tree_map_with_path(
    lambda path, a: jnp.zeros_like(a) if base.join(path) in spec.buffers else a,
    factors,
  )


def check_shapes(spec, key):
  factors = spec.init(key, std=0.5)
  assert spec.full(factors).shape == (spec.rows, spec.cols)
  for leaf in jax.tree.leaves(factors):
    assert leaf.dtype == jnp.float32
  ids = jnp.zeros((2, 3), jnp.int32)
  assert spec.take(factors, ids).shape == (2, 3, spec.cols)
  for batch in ((), (4,), (2, 0), (2, 1, 3)):
    x = jnp.ones((*batch, spec.rows))
    assert spec.apply(factors, x).shape == (*batch, spec.cols)
    x = jnp.ones((*batch, spec.cols))
    assert spec.attend(factors, x).shape == (*batch, spec.rows)


def check_paths(spec, key):
  """Factors are nested dicts with string keys; buffers name some of them."""
  factors = spec.init(key, std=0.5)
  leaves, _ = jax.tree_util.tree_flatten_with_path(factors)
  paths = {base.join(path) for path, _ in leaves}
  for path, _ in leaves:
    for entry in path:
      assert isinstance(entry, jax.tree_util.DictKey)
      assert isinstance(entry.key, str) and '/' not in entry.key
  assert set(spec.buffers) <= paths
  sizes = {base.join(path): leaf.size for path, leaf in leaves}
  assert spec.num_params == sum(sizes[p] for p in paths - set(spec.buffers))
  ratio = spec.rows * spec.cols / spec.num_params
  assert spec.compression_ratio == ratio


def check_std(spec, key, std=0.7, draws=300):
  draw = lambda k: spec.full(spec.init(k, std=std))
  matrices = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(key, draws)))
  assert abs(matrices.mean()) < 0.05 * std
  np.testing.assert_allclose(matrices.std(), std, rtol=0.1)


def check_reproducible(spec, key):
  first, second = (spec.init(key, std=0.5) for _ in range(2))
  close(first, second, 0)
  ids = jnp.arange(5)
  close(spec.take(first, ids), spec.take(first, ids), 0)
  x = jnp.ones((3, spec.rows))
  close(spec.apply(first, x), spec.apply(first, x), 0)


def check_take(spec, key):
  factors = spec.init(key, std=0.5)
  rows = spec.rows
  # As in indexing: negative ids count from the end, others stay inside.
  ids = jnp.array([[0, 1, rows - 1], [-1, 1, -rows], [rows, 5 * rows, 0]])
  weights = jax.random.normal(jax.random.key(7), (*ids.shape, spec.cols))

  def loss(take, factors):
    taken = take(factors, ids)
    assert taken.dtype == jnp.float32
    return jnp.sum(weights * taken), taken

  slow = lambda f, i: base.Parameterization.take(spec, f, i)
  _compare(spec, loss, spec.take, slow, factors, jnp.float32)
  for ids_shape in ((), (0,), (2, 0)):
    empty = jnp.zeros(ids_shape, jnp.int32)
    assert spec.take(factors, empty).shape == (*ids_shape, spec.cols)


def check_products(spec, key, dtype):
  factors = spec.init(key, std=0.5)
  for method, size in (('apply', spec.rows), ('attend', spec.cols)):
    x_key, weight_key = jax.random.split(jax.random.key(11))
    x = jax.random.normal(x_key, (2, 3, size), dtype)
    out = spec.rows + spec.cols - size
    weights = jax.random.normal(weight_key, (2, 3, out))

    def loss(product, factors, x, weights=weights):
      y = product(factors, x)
      assert y.dtype == x.dtype
      return jnp.sum(weights * y.astype(jnp.float32)), y

    fast = getattr(spec, method)
    slow = lambda f, x, m=method: getattr(base.Parameterization, m)(spec, f, x)
    _compare(spec, loss, fast, slow, (factors, x), dtype)


def _compare(spec, loss, fast, slow, arguments, dtype):
  arguments = arguments if isinstance(arguments, tuple) else (arguments,)
  numbers = tuple(range(len(arguments)))
  results = []
  for function in (fast, slow):
    gradient = jax.value_and_grad(
      lambda *a, f=function: loss(f, *a), numbers, has_aux=True
    )
    (_, value), (factors, *rest) = jax.jit(gradient)(*arguments)
    results.append((value, trained(spec, factors), *rest))
  close(*results, TOLERANCE[jnp.dtype(dtype)])


def check_vmap(spec, key):
  """One call over several sets of factors, as in an ensemble."""
  factors = jax.vmap(lambda k: spec.init(k, std=0.5))(jax.random.split(key, 2))
  one = lambda i: jax.tree.map(lambda a: a[i], factors)
  x = jax.random.normal(key, (2, 3, spec.rows))
  ids = jnp.array([[0, 1], [1, spec.rows - 1]])
  product = jax.jit(jax.vmap(spec.apply))(factors, x)
  rows = jax.jit(jax.vmap(spec.take))(factors, ids)
  for i in range(2):
    close(product[i], spec.apply(one(i), x[i]), 1e-5)
    close(rows[i], spec.take(one(i), ids[i]), 1e-5)


def check_defaults(spec, key):
  factors = spec.init(key, std=0.5)
  penalty = spec.penalty(factors)
  assert penalty.shape == () and jnp.isfinite(penalty)
  projected = jax.jit(spec.project)(factors, jnp.zeros((), jnp.int32))
  assert jax.tree.structure(projected) == jax.tree.structure(factors)
  numbers, bits = spec.stored_size(factors)
  assert isinstance(numbers, int) and isinstance(bits, int)
  assert 0 < numbers <= sum(a.size for a in jax.tree.leaves(factors))
  assert bits <= 32 * sum(a.size for a in jax.tree.leaves(factors))


def check_fit(spec, key, tolerance=1e-5):
  """Fitting what the factors can be gives factors of the same kind."""
  factors = spec.init(key, std=0.5)
  matrix = spec.full(factors)
  fitted = spec.fit(matrix)
  kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert kind(fitted) == kind(factors)
  close(spec.full(fitted), matrix, tolerance)


def check_spec(spec, key):
  del key
  assert hash(spec) == hash(type(spec)(**vars_of(spec)))
  assert spec == type(spec)(**vars_of(spec))


def vars_of(spec):
  """Fields of a spec, what its constructor takes."""
  return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def check_all(spec, key, fit_tolerance=1e-5):
  """Everything above; fit_tolerance=None leaves `fit` out."""
  for check in (
    check_shapes,
    check_paths,
    check_std,
    check_reproducible,
    check_take,
    check_vmap,
    check_defaults,
    check_spec,
  ):
    check(spec, key)
  for dtype in DTYPES:
    check_products(spec, key, dtype)
  if fit_tolerance is not None:
    check_fit(spec, key, fit_tolerance)
