"""`compress` reaches models that others write in Flax, and changes no result.

At full rank a fit is exact: results, gradients and everything around a model
must stay as they were.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx

from tests.nn import own_models
from tt_compress.nn import compress, linen, matrix, modules, serving, sites

IDS = np.asarray([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], np.int32)
MODELS = {
  'T5': own_models.T5,
  'Whisper': own_models.Whisper,
  'Qwen': own_models.Qwen,
  'GPT': own_models.GPT,
  'scanned': own_models.Scanned,
  'mixer': own_models.Mixer,
  'recurrent': own_models.Recurrent,
  'Linen': own_models.linen_model,
}
ROW_AXES = {
  'Qwen': own_models.Qwen.row_axes,
  'Linen': own_models.LINEN_AXES,
}


def model_of(name):
  return MODELS[name](nnx.Rngs(0))


def full_rank(name):
  """Rules that give every matrix as many terms as it has dimensions."""
  found = sites.find(model_of(name))
  rule_list = {}
  for site in found.sites:
    rank = min(site.axes.rows, site.axes.cols)
    rule_list[re.escape(site.paths[0])] = dict(name='low_rank', rank=rank)
  for path, row_axes in ROW_AXES.get(name, {}).items():
    [site] = [site for site in found.variables if path in site.paths]
    shape = site.weight.get_value().shape
    rows = math.prod(shape[axis] for axis in row_axes)
    rank = min(rows, math.prod(shape) // rows)
    rule_list[re.escape(path)] = dict(
      name='low_rank', rank=rank, row_axes=row_axes
    )
  return rule_list


def dense_weights(model):
  """Paths of weights with two axes that are no factors."""
  factors = {
    id(variable)
    for module in modules.matrices(model).values()
    for variable in module.variables()
  }
  return [
    '/'.join(map(str, path))
    for path, node in nnx.iter_graph(model, graph=True)
    if isinstance(node, nnx.Param)
    and node.get_value().ndim >= 2
    and id(node) not in factors
    and 'bias' not in path
  ]


@functools.cache
def results(name, is_compressed):
  """(model, report, logits, loss and gradient of the loss)."""
  model, report = model_of(name), None
  if is_compressed:
    report = compress.compress(model, full_rank(name), fit=True)

  @nnx.jit
  def run(model):
    def loss(model):
      logits = model(IDS)
      return jnp.mean(logits**2) + jnp.mean(jnp.sin(logits)), logits

    return nnx.value_and_grad(loss, has_aux=True)(model)

  (loss, logits), gradient = run(model)
  return model, report, logits, loss, gradient


@pytest.mark.parametrize('name', MODELS)
def test_all_matrices_are_reached_and_results_stay(name):
  _, _, expected, expected_loss, dense = results(name, False)
  model, report, logits, loss, gradient = results(name, True)
  assert dense_weights(model) == []
  assert len(report.swapped) == len(full_rank(name))
  assert all('bias' in path for path in report.unreached)
  assert max(float(swap.error) for swap in report.swapped) < 1e-5
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  # Vectors have the same gradient; every factor has one.
  ours, theirs = (
    {path: value.get_value() for path, value in nnx.to_flat_state(state)}
    for state in (gradient, dense)
  )
  for path, value in theirs.items():
    if path in ours:
      np.testing.assert_allclose(ours[path], value, rtol=1e-3, atol=1e-5)
  assert all(np.any(value) for path, value in ours.items() if 'left' in path)


@pytest.mark.parametrize('name', ['GPT', 'scanned', 'mixer', 'Linen'])
def test_what_one_does_with_a_model_works_after_it(name, tmp_path):
  model, _, expected, _, _ = results(name, True)
  graphdef, state = nnx.split(model)
  run = nnx.jit(lambda model: model(IDS))
  again = nnx.merge(graphdef, state)
  np.testing.assert_allclose(run(again), expected, atol=1e-6)

  optimizer = nnx.Optimizer(again, optax.adam(1e-2), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer):
    loss = lambda model: jnp.mean((model(IDS) - 1) ** 2)
    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value

  losses = [float(step(again, optimizer)) for _ in range(4)]
  assert losses[-1] < losses[0]

  arrays = nnx.to_pure_dict(nnx.state(again, nnx.Param))
  with orbax.checkpoint.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'model', arrays)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / 'model', arrays)
  third = nnx.merge(graphdef, state)
  nnx.update(third, restored)
  np.testing.assert_allclose(run(third), run(again), atol=1e-6)


def test_a_model_of_linen_keeps_its_state_and_its_methods():
  dense, model = model_of('Linen'), model_of('Linen')
  compress.compress(model, full_rank('Linen'), fit=True)
  assert type(model) is linen.Bridged
  for each in (dense, model):
    each(IDS, train=True, mutable=['batch_stats'])
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, *(nnx.state(m, nnx.BatchStat) for m in (model, dense)))
  assert np.any(model.BatchNorm_0['mean'].get_value())
  assert len(modules.matrices(model)) == len(full_rank('Linen'))


def test_dense_matrices_of_a_stack_and_of_attention_come_back():
  for name in ('scanned', 'mixer'):
    _, _, expected, _, _ = results(name, False)
    model = model_of(name)
    compress.compress(model, full_rank(name), fit=True)
    serving.expand(model)
    assert all(
      'matrix' in each.factors for each in modules.matrices(model).values()
    )
    np.testing.assert_allclose(model(IDS), expected, rtol=1e-5, atol=1e-5)


def test_random_factors_of_a_stack_are_those_of_layers():
  model = model_of('scanned')
  rule = dict(name='tensor_train', tt_rank=2, num_modes=2)
  report = compress.compress(model, {'blocks/.*': rule}, nnx.Rngs(1))
  layer = modules.matrices(model)['blocks/up']
  assert layer.full().shape == (3, 12, 16)
  assert not np.allclose(layer.full()[0], layer.full()[1])
  assert str(report.swapped[-1]).startswith('blocks/up: 3 x 12 x 16 in ')
  assert report.kept == ('table',)
  assert model(IDS).shape == (2, 5, 20)
  sizes = sum(a.size for a in jax.tree.leaves(layer.values()))
  assert report.swapped[-1].spec.num_params == sizes
  with pytest.raises(ValueError, match='the factors of 3 layers'):
    model.blocks.up(np.ones((2, 12), np.float32))


def test_a_fit_is_a_function_of_path_spec_and_matrix():
  seen = {}

  def fit(path, spec, matrix):
    seen[path] = matrix
    return spec.fit(2 * np.asarray(matrix))

  model, dense = model_of('scanned'), model_of('scanned')
  rule = dict(name='low_rank', rank=12)
  report = compress.compress(model, {'blocks/up': rule}, fit=fit)
  assert list(seen) == ['blocks/up[0]', 'blocks/up[1]', 'blocks/up[2]']
  kernel = dense.blocks.up.kernel.get_value()
  np.testing.assert_array_equal(seen['blocks/up[1]'], kernel[1])
  np.testing.assert_allclose(model.blocks.up.full(), 2 * kernel, atol=1e-5)
  assert report.swapped[0].error == pytest.approx(1)
  with pytest.raises(ValueError, match="fit='best' must be True, False"):
    compress.compress(model, {'blocks/up': rule}, fit='best')
  with pytest.raises(TypeError, match='rngs=3 has no keys; pass nnx.Rngs'):
    compress.compress(model, {'blocks/up': rule}, 3)


@pytest.mark.parametrize('dtype', [None, jnp.bfloat16])
@pytest.mark.parametrize('param_dtype', [jnp.float32, jnp.bfloat16])
def test_dtypes_and_attributes_of_layers_stay(dtype, param_dtype):
  kinds = dict(dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))

  def make():
    return nnx.Dict(
      linear=nnx.Linear(6, 4, **kinds),
      general=nnx.LinearGeneral((3, 2), (2, 5), axis=(-1, 1), **kinds),
      einsum=nnx.Einsum('btd,hdk->bthk', (2, 6, 5), (2, 5), **kinds),
      convolution=nnx.Conv(6, 4, (3,), **kinds),
      precise=nnx.Linear(6, 4, precision='highest', **kinds),
    )

  def call(model, x):
    return [
      model.linear(x),
      model.general(x.reshape(2, 3, 4, 2)),
      model.einsum(x),
      model.convolution(x),
      model.precise(x),
    ]

  before, after = make(), make()
  rule = dict(name='low_rank', rank=2)
  report = compress.compress(after, {'.*': rule}, fit=True)
  assert len(report.swapped) == 5
  for x_dtype in (jnp.float32, jnp.bfloat16):
    x = jnp.ones((2, 4, 6), x_dtype)
    for ours, theirs in zip(call(after, x), call(before, x), strict=True):
      assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
  for name in ('general', 'einsum', 'convolution', 'precise'):
    ours, theirs = getattr(after, name), getattr(before, name)
    assert isinstance(ours, type(theirs))
    kept = vars(theirs).keys() - {
      'kernel',
      'bias',
      '_pytree__state',
      '_pytree__nodes',
    }
    assert {key: vars(ours)[key] for key in kept} == {
      key: vars(theirs)[key] for key in kept
    }
    assert ours.bias.get_value().dtype == param_dtype
    assert ours.kernel.shape == theirs.kernel.shape
    assert ours.kernel[...].dtype == ours.kernel.dtype == param_dtype
    np.testing.assert_array_equal(ours.kernel.value, ours.kernel.get_value())
    assert ours.kernel.T.shape == theirs.kernel.T.shape


def test_a_weight_computes_as_a_variable():
  model = nnx.Dict(w=nnx.Param(jnp.arange(12.0).reshape(4, 3)))
  rule = dict(name='low_rank', rank=2, row_axes=(0,))
  compress.compress(model, {'w': rule}, fit=True)
  w, dense = model.w, np.arange(12.0).reshape(4, 3)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  x = jnp.ones((2, 4))
  close(x @ w, x @ dense)
  close(w @ jnp.ones(3), dense.sum(1))
  close(w + 1, dense + 1)
  close(2 * w[...] - w, dense)
  close(-w / 2, -dense / 2)
  close(2 * w - (1 - w), 3 * dense - 1)
  close(np.ones((2, 4)) @ w, x @ dense)
  close(np.asarray(w), dense)
  assert len([*w]) == 4
  close(jnp.einsum('bi,ij->bj', x, w), x @ dense)
  close(w[jnp.asarray([[3, 1]])], dense[[[3, 1]]])
  close(w[1:, 0], dense[1:, 0])
  assert (w.ndim, w.shape, w.size) == (2, (4, 3), 12)
  with pytest.raises(AttributeError):
    w.value = dense
  with pytest.raises(AttributeError, match='set_value'):
    w.set_value(dense)


def test_metadata_of_a_variable_goes_to_its_factors():
  with nnx.use_eager_sharding(False):
    metadata = {'out_sharding': (None, 'model')}
    model = own_models.Scanned(nnx.Rngs(0), metadata=metadata)
    expected_logits = model(IDS)
  rule = dict(name='tensor_train', tt_rank=12, num_modes=2)
  compress.compress(model, {'blocks/up': rule}, fit=True)
  with nnx.use_eager_sharding(False):
    np.testing.assert_allclose(model(IDS), expected_logits, atol=1e-5)
  for name, factor in model.blocks.up.factors.items():
    axis = model.blocks.up.spec.partitions('cols').get(name)
    expected = ['layers'] + (factor.get_value().ndim - 1) * [None]
    if axis is not None:
      expected[axis] = 'model'
    assert factor.get_metadata('out_sharding') == tuple(expected)
  assert 'model' in model.blocks.up.factors['core_0'].get_metadata(
    'out_sharding'
  )


class Frozen(nnx.Param):
  pass


def test_factors_have_the_type_and_the_mesh_of_their_variable():
  mesh = jax.make_mesh(
    (4,), ('model',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  where = lambda *names: jax.NamedSharding(mesh, jax.P(*names))
  layer = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
  array = jax.device_put(layer.kernel.get_value(), where(None, 'model'))
  layer.kernel = Frozen(array, note='mine')
  bias = layer.bias
  model = nnx.Dict(layer=layer)
  rule = dict(
    name='tensor_train', tt_rank=2, col_modes=(4, 4), row_modes=(2, 4)
  )
  compress.compress(model, {'layer': rule}, fit=True)
  assert model.layer.bias is bias
  factors = model.layer.factors
  assert {type(each) for each in factors.values()} == {Frozen}
  assert {each.get_metadata('note') for each in factors.values()} == {'mine'}
  first = factors['core_0'].get_value()
  axis = model.layer.spec.partitions('cols')['core_0']
  names = [None] * first.ndim
  names[axis] = 'model'
  assert first.sharding.is_equivalent_to(where(*names), first.ndim)
  x = np.ones((3, 8), np.float32)
  assert np.isfinite(nnx.jit(lambda model: model.layer(x))(model)).all()
  odd = dict(rule, col_modes=(2, 8))
  model.layer = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
  model.layer.kernel.set_value(array)
  compress.compress(model, {'layer': odd}, fit=True)
  for each in model.layer.factors.values():
    assert each.get_value().sharding.is_fully_replicated


def test_a_stack_of_variables_needs_its_number_of_axes():
  w = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)
  model = nnx.Dict(w=nnx.Param(jnp.asarray(w)))
  rule = dict(name='low_rank', rank=5, row_axes=(2,), stack_axes=1)
  report = compress.compress(model, {'w': rule}, fit=True)
  assert isinstance(model.w, matrix.Matrix)
  assert str(report).startswith('w: 3 x 5 x 8 in ')
  np.testing.assert_allclose(model.w[...], w, atol=1e-5)
  loop = nnx.vmap(lambda model: model.w[...] + 1)
  np.testing.assert_allclose(loop(model), w + 1, atol=1e-5)


class Experts(nnx.Module):
  """Experts [experts, in, out] as three kinds of layers write them."""

  def __init__(self, rngs):
    up = rngs.normal((4, 6, 10)) / 3
    self.up = nnx.Param(up)
    self.gate = nnx.Einsum('etd,edf->etf', (4, 6, 10), (4, 1, 10), rngs=rngs)
    self.down = nnx.LinearGeneral(10, 6, batch_axis={0: 4}, rngs=rngs)
    self.router = nnx.Linear(6, 4, rngs=rngs)

  def __call__(self, x):
    """x [tokens, 6]; all experts, weighted by the router."""
    each = jnp.broadcast_to(x, (4, *x.shape))
    hidden = jnp.einsum('etd,edf->etf', each, self.up[...])
    hidden = hidden * nnx.silu(self.gate(each))
    weights = jax.nn.softmax(self.router(x))
    return jnp.einsum('te,etd->td', weights, self.down(hidden))


def test_experts_have_factors_each():
  model = Experts(nnx.Rngs(0))
  variables = {
    'up': model.up.get_value(),
    'gate': model.gate.kernel.get_value(),
    'down': model.down.kernel.get_value(),
  }
  x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
  expected = model(x)
  axes = dict(row_axes=(0,), stack_axes=1)
  full = nnx.clone(model)
  rules = lambda rank: {
    'gate|down': dict(name='low_rank', rank=rank),
    'up': dict(name='low_rank', rank=rank, **axes),
  }
  report = compress.compress(full, rules(6), fit=True)
  assert {str(swap).split(' in ')[0] for swap in report.swapped} == {
    'gate: 4 x 6 x 10',
    'down: 4 x 10 x 6',
    'up: 4 x 6 x 10',
  }
  np.testing.assert_allclose(full(x), expected, atol=1e-5)
  compress.compress(model, rules(2), fit=True)
  for name, weight in variables.items():
    held = getattr(model, name)
    found = (held if name == 'up' else held.kernel).get_value()
    left, values, right = np.linalg.svd(np.asarray(weight, np.float64))
    nearest = np.einsum(
      'eik,ek,ekj->eij', left[..., :2], values[:, :2], right[:, :2]
    )
    np.testing.assert_allclose(found, nearest, atol=1e-5)
  gradients = nnx.grad(lambda model: jnp.sum(model(x) ** 2))(model)
  assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_bias_is_dropped_where_the_layer_can_do_without():
  rule = dict(name='low_rank', rank=2, bias=False)
  model = nnx.Dict(
    general=nnx.LinearGeneral(4, (2, 3), rngs=nnx.Rngs(0)),
    convolution=nnx.Conv(4, 3, (2,), rngs=nnx.Rngs(0)),
  )
  with pytest.raises(ValueError, match='convolution has bias=False, but Conv'):
    compress.compress(model, {'.*': rule})
  assert type(model.general) is nnx.LinearGeneral
  compress.compress(model, {'general': rule})
  assert model.general.bias is None
  x = np.zeros((1, 4), np.float32)
  assert not np.any(model.general(x))
  with pytest.raises(ValueError, match='general is no linear layer'):
    compress.compress(
      model, {'general': dict(name='low_rank', rank=2, activation='silu')}
    )


def test_general_layers_take_the_sharding_of_their_result():
  model = nnx.Dict(
    general=nnx.LinearGeneral(8, (4, 2), rngs=nnx.Rngs(0)),
    einsum=nnx.Einsum('btd,dhk->bhtk', (8, 4, 2), (4, 1, 2), rngs=nnx.Rngs(1)),
  )
  x = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
  dense = [model.general(x), model.einsum(x)]
  compress.compress(model, {'.*': dict(name='low_rank', rank=8)}, fit=True)
  mesh = jax.make_mesh(
    (2, 2),
    ('data', 'model'),
    axis_types=2 * (jax.sharding.AxisType.Explicit,),
    devices=jax.devices()[:4],
  )
  places = jax.P('data', None, 'model'), jax.P('data', 'model')
  with jax.set_mesh(mesh):
    placed = jax.device_put(x, jax.NamedSharding(mesh, jax.P('data')))
    found = jax.jit(
      lambda x: [
        model.general(x, out_sharding=places[0]),
        model.einsum(x, out_sharding=places[1]),
      ]
    )(placed)
  for ours, theirs, place in zip(found, dense, places, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours.sharding.is_equivalent_to(jax.NamedSharding(mesh, place), 4)


def test_one_layer_in_two_places_and_arrays_of_numpy():
  layer = nnx.LinearGeneral(4, (2, 3), rngs=nnx.Rngs(0))
  kernel = np.asarray(layer.kernel.get_value())
  layer.kernel.set_value(kernel)
  model = nnx.Dict(first=layer, second=nnx.List([layer]), third=layer.kernel)
  report = compress.compress(
    model, {'first': dict(name='low_rank', rank=4)}, fit=True
  )
  assert report.swapped[0].path == 'first = second/0 = third'
  assert model.first is model.second[0]
  np.testing.assert_allclose(model.third[...], kernel, atol=1e-5)
  sizes = [a.size for a in jax.tree.leaves(modules.split(model)[1])]
  assert sum(sizes) == 4 * (4 + 6) + 6
