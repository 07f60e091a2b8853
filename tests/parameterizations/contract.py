"""What every parameterization promises, as functions of a spec.

A fast body is compared with the slow one of the base class, in values and in
gradients. `check_all` is for specs that are not in the registry.
"""

import dataclasses
import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tt_compress.algebra import networks
from tt_compress.parameterizations import base

USES = typing.get_args(networks.Use)
DTYPES = (jnp.float32, jnp.bfloat16)
# Largest error of an array as a fraction of its norm; bfloat16 has 8 bits.
TOLERANCE = {jnp.dtype('float32'): 1e-5, jnp.dtype('bfloat16'): 3e-2}

# Faster to compile, slower to run.
COMPILER = {'xla_backend_optimization_level': 0}
if jax.__version_info__ < (0, 11):  # The option is gone since.
  COMPILER['xla_cpu_use_fusion_emitters'] = False


def close(ours, theirs, tolerance, scales=None):
  """Compares trees of arrays by the error of each, relative to its norm.

  Or relative to its scale, where that is larger and given.
  """
  scales = scales or jax.tree.map(lambda _: 0.0, theirs)
  jax.tree.map(
    lambda a, b, scale: _close(a, b, tolerance, scale), ours, theirs, scales
  )


def _close(ours, theirs, tolerance, scale):
  assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  # As a bound that does not bind; the difference of infinities is no number.
  infinite = np.isinf(theirs)
  assert np.array_equal(ours[infinite], theirs[infinite])
  ours, theirs = ours[~infinite], theirs[~infinite]
  error = np.linalg.norm(ours - theirs)
  assert error <= tolerance * max(np.linalg.norm(theirs), scale), error


@functools.cache
def initialize(spec):
  """A compiled function: key -> factors of standard deviation 0.5.

  By default by the initialization for which entries of W have this deviation.
  """
  method = spec.initialization or 'frobenius'
  spec = dataclasses.replace(spec, initialization=method)
  init = functools.partial(spec.init, std=0.5)
  return jax.jit(init, compiler_options=COMPILER)


@functools.cache
def full(spec):
  """A compiled function: factors -> matrix."""
  return jax.jit(spec.full, compiler_options=COMPILER)


@functools.cache
def pull(spec):
  """A compiled function: factors, gradient of the matrix -> of the factors."""
  compute = lambda factors, weights: jax.vjp(spec.full, factors)[1](weights)[0]
  return jax.jit(compute, compiler_options=COMPILER)


def draw(spec, key):
  """Factors of standard deviation 0.5, and their matrix."""
  factors = initialize(spec)(key)
  return factors, full(spec)(factors)


@functools.cache
def start(spec):
  """The factors that the checks compute with, and their full matrix."""
  factors, matrix = draw(spec, jax.random.key(0))
  close(draw(spec, jax.random.key(0)), (factors, matrix), 0)
  return factors, np.asarray(matrix)


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
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
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
  kept = spec.num_params + spec.num_frozen
  assert spec.compression_ratio == spec.rows * spec.cols / kept


def check_std(spec, draws=300):
  """Mean and standard deviation of entries, over many keys."""
  keys = jax.random.split(jax.random.key(1), draws)
  matrices = np.stack([np.asarray(draw(spec, key)[1]) for key in keys])
  assert abs(matrices.mean()) < 0.05 * 0.5
  np.testing.assert_allclose(matrices.std(), 0.5, rtol=0.1)


def check_variance(spec, draws=20):
  """The variance of every entry, exactly, where W is multilinear.

  Factors are independent and symmetric and W is a sum of products of one entry
  of each, so Var W is the same sum of products of variances: the matrix of
  factors that are filled with their variances. Products of many normal numbers
  have tails too heavy for a check by sampling.
  """
  keys = jax.random.split(jax.random.key(1), draws)
  several = map(initialize(spec), keys)
  factors = jax.tree.map(lambda *a: np.stack(a).astype(np.float64), *several)
  filled = jax.tree.map(
    lambda a: jnp.full(a.shape[1:], a.var(), jnp.float32), factors
  )
  variance = np.asarray(full(spec)(filled), np.float64)
  # As many draws of the smallest factor as there are, of relative error
  # sqrt(2 / size), one factor after the other.
  spread = sum(2 / a.size for a in jax.tree.leaves(factors)) ** 0.5
  spread *= getattr(spec, 'order', 1)  # An array may hold all factors.
  assert abs(variance / 0.25 - 1).max() < 5 * spread + 1e-5


def starts(spec):
  """{(method, use): factors} of one key, for standard deviation 0.5."""

  def draw(key):
    return {
      f'{method} {use}': dataclasses.replace(spec, initialization=method).init(
        key, std=0.5, role=use
      )
      for method, use in itertools.product(methods(spec), USES)
    }

  return jax.jit(draw, compiler_options=COMPILER)(jax.random.key(0))


def methods(spec):
  """Of initialization: a fixed scale of the output cannot be zero."""
  has_norm = getattr(spec, 'norm', 'none') != 'none'
  return ('spectral',) if has_norm else ('spectral', 'zero')


def check_network(spec):
  """The sum over indices of the network is the matrix, up to its padding."""
  factors, matrix = start(spec)
  names = sorted({k for sizes in spec.network.values() for k in sizes})
  arguments = []
  for name, sizes in spec.network.items():
    # An array may join neighboring indices to one axis.
    array = np.asarray(tensor(factors, name), np.float64)
    arguments.append(array.reshape(tuple(sizes.values())))
    arguments.append([names.index(k) for k in sizes])
  digits = [names.index(k) for side in 'ij' for k in names if k[0] == side]
  expected = np.einsum(*arguments, digits, optimize='greedy')
  expected = expected.reshape(networks.shape(spec.network))
  if getattr(spec, 'index_order', 'row_major') == 'column_major':
    order = np.arange(len(expected)).reshape(spec.row_modes[::-1])
    expected = expected[order.T.reshape(-1).argsort()]
  expected = expected[: spec.rows, : spec.cols]
  close(np.asarray(matrix, np.float64), expected, 1e-5)


def tensor(factors, name):
  """A tensor of the network, which may be a leaf of an array of leaves."""
  if name in factors:
    return factors[name]
  return factors['leaves'][:, :, int(name.removeprefix('leaf_'))]


def check_initialization(spec):
  """Methods differ from 'frobenius' by one scale per factor.

  Where W is multilinear, so that its matrix differs by their product.
  """
  factors, matrix = start(spec)
  wide = np.asarray(matrix, np.float64)
  for name, found in starts(spec).items():
    method, use = name.split()
    for part in spec.network:
      _check_scaled(tensor(found, part), tensor(factors, part))
    ours = np.asarray(full(spec)(found), np.float64)
    if method == 'zero':
      assert not ours.any()
      _check_last(spec, found, use)
      continue
    scale = np.vdot(ours, wide) / np.vdot(wide, wide)
    close(ours, scale * wide, 1e-5)
    if use == 'rows':
      assert scale == pytest.approx(1, rel=1e-5)


def _check_scaled(ours, theirs):
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  scale = np.vdot(ours, theirs) / max(np.vdot(theirs, theirs), 1e-30)
  assert np.linalg.norm(ours - scale * theirs) <= 1e-6 * np.linalg.norm(ours)


def _check_last(spec, factors, use):
  """W is zero by the last factor, which alone has a gradient."""
  weights = np.random.default_rng(0).normal(size=(spec.rows, spec.cols))
  gradients = pull(spec)(factors, weights.astype(np.float32))
  last = spec.sequence(use)[-1]
  for name in spec.network:
    assert np.any(tensor(gradients, name)) == (name == last)


def check_math(spec):
  """Values and gradients of products and the norm against the matrix itself.

  Expected are the values and gradients of W[ids], W[a] W[b]^T, x W, x W^T and
  ||W||^2 in float64; those of W are carried to the factors by the derivative of
  `full`.
  """
  factors, matrix = start(spec)
  calls = list(_calls(spec))

  def compute(factors, gradients):
    _, pull = jax.vjp(spec.full, factors)
    ours = [_gradients(*call, factors) for call in calls]
    norm = jax.value_and_grad(spec.squared_norm)(factors)
    return ours, norm, [pull(gradient)[0] for gradient in gradients]

  expected = [_expected(matrix, *call) for call in calls]
  gradients = [gradient for *_, gradient in expected]
  ours, norm, (*of_factors, of_norm) = jax.jit(
    compute, compiler_options=COMPILER
  )(factors, [*gradients, 2 * matrix])
  _check_norm(spec, norm, matrix, of_norm)
  for call, (found, mine), (value, of_x, _), theirs in zip(
    calls, ours, expected, of_factors, strict=True
  ):
    of_xs = mine[1:]
    dtype = call[-2].dtype if call[-2].dtype in DTYPES else jnp.float32
    assert found.dtype == dtype
    tolerance = TOLERANCE[jnp.dtype(dtype)]
    close(np.asarray(found, np.float64), value, tolerance)
    mine, theirs = trained(spec, mine[0]), trained(spec, theirs)
    close(mine, theirs, tolerance, _scales(factors, value, call[-1]))
    for gradient in of_xs:
      close(np.asarray(gradient, np.float64), of_x, tolerance)


def _check_norm(spec, found, matrix, gradient):
  """||W||^2 and its gradients, which vanish where no factor changes it."""
  factors, _ = start(spec)
  value, mine = found
  square = np.sum(np.asarray(matrix, np.float64) ** 2)
  np.testing.assert_allclose(value, square, rtol=2e-5)
  mine, theirs = trained(spec, mine), trained(spec, gradient)
  close(mine, theirs, 2e-5, _scales(factors, matrix, matrix))


def _scales(factors, value, weights):
  """Sizes of gradients before terms of them cancel, as they do in sums."""
  loss = np.linalg.norm(weights) * np.linalg.norm(value)
  size = lambda a: loss / np.linalg.norm(a) if np.any(a) else 0.0
  return jax.tree.map(size, factors)


def _calls(spec):
  """Yields (method, ids or x, weights of the entries of the result)."""
  rows, cols = spec.rows, spec.cols
  random = np.random.default_rng(0)
  ids = np.array([[0, min(1, rows - 1), rows - 1], [-1, rows // 2, -rows]])
  weights = random.normal(size=(2, 3, cols)).astype(np.float32)
  yield spec.take, jnp.asarray(ids), weights
  pairs = random.normal(size=(3, 3)).astype(np.float32)
  yield _every_pair(spec), jnp.asarray(ids), pairs
  for dtype in DTYPES:
    for method, size, out in (
      (spec.apply, rows, cols),
      (spec.attend, cols, rows),
    ):
      x = jnp.asarray(random.normal(size=(2, 3, size)), dtype)
      yield method, x, random.normal(size=(2, 3, out)).astype(np.float32)


def _every_pair(spec):
  """Inner products of rows of the first ids with rows of the second ones."""

  def inner(factors, ids):
    first, second = ids
    return spec.inner(factors, first[:, None], second)

  return inner


def _gradients(method, x, weights, factors):
  """(value, gradients of its weighted sum by the factors and by a real x)."""

  def loss(factors, x):
    y = method(factors, x)
    return jnp.sum(weights * y.astype(jnp.float32)), y

  numbers = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else (0,)
  gradients, value = jax.grad(loss, numbers, has_aux=True)(factors, x)
  return value, gradients


def _expected(matrix, method, x, weights):
  """(value, gradient of x, gradient of W) of a weighted sum of the result."""
  w = np.asarray(matrix, np.float64)
  if method.__name__ == 'take':
    gradient = np.zeros_like(w)
    np.add.at(gradient, np.asarray(x), weights)
    return w[np.asarray(x)], None, gradient.astype(np.float32)
  if method.__name__ == 'inner':
    first, second = np.asarray(x)
    gradient = np.zeros_like(w)
    np.add.at(gradient, first, weights @ w[second])
    np.add.at(gradient, second, weights.T @ w[first])
    return w[first] @ w[second].T, None, gradient.astype(np.float32)
  x = np.asarray(x, np.float64)
  if method.__name__ == 'apply':
    gradient = np.einsum('abi,abj->ij', x, weights)
    return x @ w, weights @ w.T, gradient.astype(np.float32)
  gradient = np.einsum('abi,abj->ij', weights, x)
  return x @ w.T, weights @ w, gradient.astype(np.float32)


def check_refusals(spec):
  """x of another size is an error; padding would hide it."""
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  for method, size in ((spec.apply, spec.rows), (spec.attend, spec.cols)):
    for wrong in ((2, size + 1), (2, size - 1), (2, 2 * size + 1), ()):
      with pytest.raises(ValueError, match='does not suit a matrix of'):
        jax.eval_shape(method, shapes, jax.ShapeDtypeStruct(wrong, jnp.float32))


def check_init_arguments(spec):
  """A bad std is refused, and a NumPy scalar promotes nothing."""
  for std in (-1.0, float('nan')):
    with pytest.raises(ValueError, match='std must be a number of at least 0'):
      jax.eval_shape(lambda std=std: spec.init(jax.random.key(0), std=std))
  half = lambda: spec.init(
    jax.random.key(0), std=np.float64(0.5), dtype=jnp.bfloat16
  )
  for leaf in jax.tree.leaves(jax.eval_shape(half)):
    assert leaf.dtype in (jnp.bfloat16, jnp.bool_)


def check_ids(spec):
  """Beyond the ends: the nearest row, as in indexing; some batch is empty."""
  factors, matrix = start(spec)
  take = jax.jit(spec.take, compiler_options=COMPILER)
  beyond = jnp.array([spec.rows, 5 * spec.rows, -2 * spec.rows])
  close(take(factors, beyond), matrix[[-1, -1, 0]], 1e-5)
  assert take(factors, jnp.zeros((2, 0), jnp.int32)).shape == (2, 0, spec.cols)
  # Types that the number of rows may not fit in.
  small = np.array([0, min(spec.rows - 1, 100)])
  for dtype in (jnp.uint8, jnp.int8, jnp.uint32):
    close(take(factors, jnp.asarray(small, dtype)), matrix[small], 1e-5)


def check_nearest(spec):
  """The rows that a sort of all inner products finds, whatever the order."""
  factors, matrix = start(spec)
  w = np.asarray(matrix, np.float64)
  ids = np.array([[0, -1], [spec.rows // 2, 0]])
  k = min(3, spec.rows - 1)
  for cosine in (False, True):
    nearest = functools.partial(spec.nearest, k=k, cosine=cosine)
    if not k:
      with pytest.raises(ValueError, match='k=0: a matrix of 1 rows'):
        nearest(factors, ids)
      continue
    found, scores = jax.jit(nearest, compiler_options=COMPILER)(factors, ids)
    norms = np.linalg.norm(w, axis=1) if cosine else np.ones(spec.rows)
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0)
    expected = w[ids] @ w.T * inverse[ids][..., None] * inverse
    np.put_along_axis(expected, ids[..., None] % spec.rows, -np.inf, axis=-1)
    size = np.abs(expected[np.isfinite(expected)]).max()
    # The ids of equal inner products may change places.
    theirs = np.sort(expected)[..., ::-1][..., :k]
    for mine in (scores, np.take_along_axis(expected, found, axis=-1)):
      np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * size)


def check_row_blocks(spec):
  """Blocks one after the other are the matrix, whatever comes behind it."""
  factors, matrix = start(spec)
  counts = (1, 3, spec.rows)

  def compute(factors):
    pairs = [spec.row_blocks(factors, count) for count in counts]
    return [jax.lax.map(*pair) for pair in pairs]

  found = jax.jit(compute, compiler_options=COMPILER)(factors)
  for blocks, count in zip(found, counts, strict=True):
    assert len(blocks) <= count
    close(blocks.reshape(-1, spec.cols)[: spec.rows], matrix, 1e-5)
  assert spec.makes_full(factors, 1) in (True, False)


def check_vmap(spec):
  """One call over several sets of factors, as in an ensemble."""
  factors, matrix = start(spec)
  several = jax.tree.map(lambda a: jnp.stack([a, a]), factors)
  x = np.random.default_rng(0).normal(size=(2, 3, spec.rows)).astype('float32')
  ids = np.array([[0, 1], [1, spec.rows - 1]])
  both = lambda f, x, i: (spec.apply(f, x), spec.take(f, i))
  compiled = jax.jit(jax.vmap(both), compiler_options=COMPILER)
  product, rows = compiled(several, x, ids)
  close(product, x @ matrix, 1e-5)
  close(rows, matrix[ids], 1e-5)


def check_sharded(spec):
  """A batch that is split over eight devices, factors on all of them."""
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  split = NamedSharding(mesh, PartitionSpec('data'))
  factors, matrix = start(spec)
  x = np.random.default_rng(0).normal(size=(16, spec.rows)).astype('float32')
  ids = np.arange(16) % spec.rows

  def loss(factors, x, ids):
    y, rows = spec.apply(factors, x), spec.take(factors, ids)
    return jnp.sum(y**2) + jnp.sum(rows**2), (y, rows)

  step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILER)
  one = step(factors, x, ids)
  several = step(
    jax.device_put(factors, everywhere),
    jax.device_put(x, split),
    jax.device_put(ids, split),
  )
  assert several[1][0].sharding.is_equivalent_to(split, 2)
  close(several[1], (x @ matrix, matrix[ids]), 1e-5)
  close(trained(spec, several[0]), trained(spec, one[0]), 1e-5)


def check_round_trip(spec, folder):
  """A checkpoint holds the factors to the last bit, by their names."""
  factors, _ = start(spec)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / 'factors', factors)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(folder / 'factors')
  close(restored, factors, 0)


def check_defaults(spec):
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  penalty = jax.eval_shape(spec.penalty, shapes)
  assert penalty.shape == () and penalty.dtype == jnp.float32
  step = jax.ShapeDtypeStruct((), jnp.int32)
  projected = jax.eval_shape(spec.project, shapes, step)
  assert jax.tree.structure(projected) == jax.tree.structure(shapes)
  numbers, bits = spec.stored_size(shapes)
  assert isinstance(numbers, int) and isinstance(bits, int)
  # A file holds the scales of quantized weights, which factors do not.
  stored = getattr(spec, 'stored', lambda shapes: {})(shapes)
  scales = sum(array.scales for array in stored.values())
  largest = scales + sum(a.size for a in jax.tree.leaves(shapes))
  assert 0 < numbers <= largest and 0 < bits <= 32 * largest


def check_fit(spec, tolerance=1e-5):
  """Fitting what the factors can be gives factors of the same kind."""
  factors, matrix = start(spec)
  fitted = spec.fit(matrix)
  kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert kind(fitted) == kind(factors)
  close(np.asarray(full(spec)(fitted)), matrix, tolerance)


def check_spec(spec):
  """Specs are values: rebuilt from their fields they are the same."""
  again = dataclasses.replace(spec)
  assert again == spec and hash(again) == hash(spec)


# Without compilation, and with one compiled function each.
QUICK = (
  check_shapes,
  check_paths,
  check_spec,
  check_defaults,
  check_refusals,
)
COMPILED = (
  check_math,
  check_row_blocks,
  check_nearest,
  check_ids,
  check_vmap,
  check_sharded,
)


def check_all(spec, fit_tolerance=1e-5):
  """Everything above; fit_tolerance=None leaves `fit` out."""
  for check in (*QUICK, *COMPILED, check_std):
    check(spec)
  if fit_tolerance is not None:
    check_fit(spec, fit_tolerance)


def temporaries(method, spec, argument, slow=False):
  """Bytes of temporary memory of a method and of its gradient, compiled.

  Args:
    method: 'take', 'apply' or 'attend'.
    spec: the parameterization.
    argument: shape and dtype of the ids or of x.
    slow: whether to look at the body of the base class, for 'apply'.
  """
  slow_apply = functools.partial(base.Parameterization._apply, spec)
  function = slow_apply if slow else getattr(spec, method)
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  total = lambda *arguments: jnp.sum(jnp.square(function(*arguments)))
  is_float = jnp.issubdtype(argument.dtype, jnp.floating)
  for compiled in (function, jax.grad(total, (0, 1) if is_float else 0)):
    program = jax.jit(compiled).lower(factors, argument).compile()
    yield program.memory_analysis().temp_size_in_bytes
