"""Swapping parameterizations in: sharing, foreign models, rules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tt_compress.nn import compress, embed, linear, modules
from tt_compress.parameterizations import low_rank, random_factors

RANK_2 = dict(name='low_rank', rank=2)


class Shared(nnx.Module):
  """One module in two places; `layer` makes it, of 6 x 6."""

  def __init__(self, layer, rngs):
    self.first = nnx.Dict(inner=layer(6, 6, rngs=rngs))
    self.second = nnx.List([self.first.inner])
    self.other = layer(6, 6, rngs=rngs)


class Foreign(nnx.Module):
  """A model made of Flax's own layers."""

  def __init__(self, rngs, dim=6):
    self.table = nnx.Embed(10, dim, rngs=rngs)
    self.mlp = nnx.Sequential(
      nnx.Linear(dim, 8, rngs=rngs),
      nnx.relu,
      nnx.Linear(8, dim, use_bias=False, rngs=rngs),
    )
    self.norm = nnx.LayerNorm(dim, rngs=rngs)

  def __call__(self, ids):
    return self.table.attend(self.norm(self.mlp(self.table(ids))))


class Unreachable(nnx.Module):
  def __init__(self, rngs):
    self.head = nnx.Linear(6, 6, rngs=rngs)
    self.einsum = nnx.Einsum('nta,anb->ntb', (6, 3, 6), rngs=rngs)
    self.lora = nnx.LoRALinear(6, 6, lora_rank=2, use_bias=False, rngs=rngs)


def low_rank_matrix(rows, cols, rank):
  random = np.random.default_rng(0)
  product = random.normal(size=(rows, rank)) @ random.normal(size=(rank, cols))
  return jnp.asarray(product, jnp.float32)


def low_rank_spec():
  return low_rank.LowRank(rows=6, cols=6, rank=2)


def random_rows(*shape):
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  'layer', [linear.Linear, embed.Embed, nnx.Linear, nnx.Embed]
)
def test_a_shared_module_stays_shared(layer):
  model = Shared(layer, nnx.Rngs(0))
  report = compress.compress(model, [('.*', RANK_2)], nnx.Rngs(1))
  assert model.first.inner is model.second[0]
  assert model.first.inner is not model.other
  assert [swap.path for swap in report.swapped] == [
    'first/inner = second/0',
    'other',
  ]
  _, params, _ = modules.split(model)
  matrices = modules.matrices(model)
  assert len(matrices) == 2
  biases = 12 if layer in (linear.Linear, nnx.Linear) else 0
  assert modules.num_params(params) == 2 * 2 * (6 + 6) + biases


def test_a_module_below_a_shared_one_stays_shared():
  model = nnx.Dict(first=nnx.Dict(inner=nnx.Linear(6, 6, rngs=nnx.Rngs(0))))
  model.second = model.first
  compress.compress(model, [('.*/inner', RANK_2)], nnx.Rngs(1))
  assert isinstance(model.first.inner, linear.Linear)
  assert model.first.inner is model.second.inner


def test_a_module_may_refer_to_its_parent():
  model = nnx.Dict(child=nnx.Dict(linear=nnx.Linear(6, 6, rngs=nnx.Rngs(0))))
  model.child.parent = model
  report = compress.compress(model, [('.*', RANK_2)], nnx.Rngs(1))
  assert [swap.path for swap in report.swapped] == ['child/linear']


def test_two_rules_on_one_shared_matrix_are_refused():
  rules = [
    ('first/.*', RANK_2),
    ('second/.*', dict(name='low_rank', rank=3)),
  ]
  with pytest.raises(ValueError, match='first/inner = second/0'):
    compress.compress(Shared(nnx.Linear, nnx.Rngs(0)), rules, nnx.Rngs(1))


def test_one_path_of_a_shared_matrix_is_enough():
  model = Shared(nnx.Linear, nnx.Rngs(0))
  report = compress.compress(model, [('second/0', RANK_2)], nnx.Rngs(1))
  assert model.first.inner is model.second[0]
  assert isinstance(model.first.inner, linear.Linear)
  assert report.kept == ('other',)
  assert str(report).splitlines()[-1] == 'other: kept'
  assert 'second/0: ' in str(report) and ', ratio ' in str(report)


def test_layers_of_flax_are_swapped():
  model = Foreign(nnx.Rngs(0))
  model.mlp.layers[0].bias.set_value(jnp.arange(8.0))
  rules = [('table', RANK_2), ('mlp/.*', dict(name='tensor_train', tt_rank=2))]
  report = compress.compress(model, rules, nnx.Rngs(1))
  assert [swap.path for swap in report.swapped] == [
    'table',
    'mlp/layers/0',
    'mlp/layers/2',
  ]
  assert not report.kept and not report.unreached
  assert isinstance(model.table, embed.Embed)
  up, _, down = model.mlp.layers
  np.testing.assert_array_equal(up.bias.get_value(), np.arange(8))
  assert down.bias is None
  ids = np.array([[3, 1, 4]])
  x = model.table.full()[ids]
  hidden = jax.nn.relu(x @ up.full() + np.arange(8))
  expected = model.norm(hidden @ down.full()) @ model.table.full().T
  np.testing.assert_allclose(model(ids), expected, atol=1e-5)


def test_a_rule_may_drop_the_bias():
  model = Foreign(nnx.Rngs(0))
  rule = ('mlp/layers/0', dict(bias=False, **RANK_2))
  compress.compress(model, [rule], nnx.Rngs(1))
  assert model.mlp.layers[0].bias is None


@pytest.mark.parametrize(
  'layer, options, std',
  [
    (nnx.Linear, {}, 400**-0.5),
    (nnx.Embed, {}, 100**-0.5),
    (linear.Linear, {}, 400**-0.5),
    (embed.Embed, {}, 100**-0.5),
    (nnx.Linear, dict(std=2.0), 2.0),
    (embed.Embed, dict(std=2.0), 2.0),
  ],
)
def test_standard_deviation(layer, options, std):
  model = nnx.Dict(only=layer(400, 100, rngs=nnx.Rngs(0)))
  options = dict(rank=50, initialization='frobenius', **options)
  rule = ('only', dict(name='low_rank', **options))
  compress.compress(model, [rule], nnx.Rngs(1))
  assert model.only.std == std
  assert np.std(model.only.full()) == pytest.approx(std, rel=0.1)


def rank_1(layer, **options):
  """The matrix that replaces that of a layer."""
  model = nnx.Dict(only=layer)
  rule = ('only', dict(name='low_rank', rank=1, **options))
  compress.compress(model, [rule], nnx.Rngs(0))
  return model.only


def test_a_rule_scales_the_std_of_the_layer():
  layer = linear.Linear(100, 400, std=0.5, rngs=nnx.Rngs(0))
  assert rank_1(layer, std_scale=0.3).std == pytest.approx(0.15)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(std=0.1, std_scale=0.3), 'std=0.1 and std_scale=0.3; leave out one'),
    (dict(std_scale='0.3'), "std_scale='0.3'; it is a number of at least 0"),
    (dict(std_scale=-1), 'std_scale=-1; it is a number of at least 0'),
    (dict(std=-0.1), 'std=-0.1; it is a number of at least 0'),
    (dict(std='0.1'), "std='0.1'; it is a number of at least 0"),
  ],
)
def test_scales_that_are_refused(options, message):
  with pytest.raises(ValueError, match=f'the rule for only has {message}'):
    rank_1(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), **options)


ROLES = [
  (linear.Linear(8, 4, rngs=nnx.Rngs(0)), 'product'),
  (nnx.Linear(8, 4, rngs=nnx.Rngs(0)), 'product'),
  (embed.Embed(8, 4, rngs=nnx.Rngs(0)), 'rows'),
  (nnx.Embed(8, 4, rngs=nnx.Rngs(0)), 'rows'),
  (embed.Embed(8, 4, role='logits', rngs=nnx.Rngs(0)), 'logits'),
  (embed.Embed(8, 4, role='tied', rngs=nnx.Rngs(0)), 'tied'),
]


@pytest.mark.parametrize('layer, role', ROLES)
def test_defaults_are_those_of_the_role(layer, role, monkeypatch):
  defaults = random_factors.defaults(
    product='spectral', rows='zero', tied='spectral'
  )
  monkeypatch.setattr(low_rank.LowRank, 'default_initialization', defaults)
  found = rank_1(layer)
  assert found.role == role
  spec = dataclasses.replace(found.spec, initialization=defaults[role])
  expected = spec.init(nnx.Rngs(0).params(), std=found.std, role=role)
  for name, factor in found.values().items():
    assert np.array_equal(factor, expected[name])
  assert rank_1(layer, initialization='spectral').spec.method(role) == (
    'spectral'
  )


def test_a_model_keeps_its_own_std():
  layer = linear.Linear(100, 400, std=0.5, rngs=nnx.Rngs(0))
  model = nnx.Dict(only=layer)
  rule = ('only', dict(name='low_rank', rank=50, std_scale=1.0))
  compress.compress(model, [rule], nnx.Rngs(1))
  assert model.only.std == 0.5


@pytest.mark.parametrize(
  'options',
  [
    RANK_2,
    dict(name='tensor_train', tt_rank=(4,), row_modes=(2, 3), col_modes=(4, 2)),
  ],
)
def test_fit_starts_from_the_present_matrix(options):
  matrix = low_rank_matrix(6, 8, 2)
  if options['name'] == 'tensor_train':
    # the matrix whose matricization over (i1 j1), (i2 j2) has rank 4
    matrix = low_rank_matrix(8, 6, 4).reshape(2, 4, 3, 2)
    matrix = matrix.transpose(0, 2, 1, 3).reshape(6, 8)
  plain = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
  plain.kernel.set_value(matrix)
  plain.bias.set_value(jnp.ones(8))
  model = nnx.Dict(only=plain)
  report = compress.compress(model, [('only', options)], nnx.Rngs(1), fit=True)
  np.testing.assert_allclose(model.only.full(), matrix, atol=1e-5)
  assert report.swapped[0].error < 1e-5
  x = random_rows(5, 6)
  np.testing.assert_allclose(model.only(x), x @ matrix + 1, atol=1e-4)


def test_fit_reports_the_error_that_is_left():
  plain = nnx.Embed(6, 8, rngs=nnx.Rngs(0))
  matrix = plain.embedding.get_value()
  singular = np.linalg.svd(matrix, compute_uv=False)
  model = nnx.Dict(only=plain)
  report = compress.compress(model, [('only', RANK_2)], nnx.Rngs(1), fit=True)
  expected = np.linalg.norm(singular[2:]) / np.linalg.norm(singular)
  assert report.swapped[0].error == pytest.approx(expected, rel=1e-4)


def test_without_fit_there_is_no_error_to_report():
  model = Foreign(nnx.Rngs(0))
  report = compress.compress(model, [('table', RANK_2)], nnx.Rngs(1))
  assert report.swapped[0].error is None


@pytest.mark.parametrize(
  'rules, told',
  [
    ([('tabel', RANK_2)], ["'tabel' matches none", "'table'"]),
    ([('.*', RANK_2), ('table', RANK_2)], ["'table' matches only", "'.*'"]),
    ([('table', dict(name='tensor_tran'))], ['table:', "'tensor_train'"]),
    ([('table', dict(rank=2))], ['table', 'has no name', 'low_rank']),
    (
      [('table', dict(name='low_rank', rnak=2))],
      ['table:', "'rnak'", "mean 'rank'"],
    ),
    ([('table', dict(name='low_rank'))], ['table:', 'needs rank']),
    ([('table', dict(name='low_rank', rank=0))], ['table:', 'rank', 'got 0']),
    (
      [
        (
          'table',
          dict(
            name='tensor_train', tt_rank=2, row_modes=(2, 4), col_modes=(2, 3)
          ),
        )
      ],
      ['table:', 'rows=10', '(2, 4) = 8'],
    ),
  ],
)
def test_a_bad_rule_names_where_and_what(rules, told):
  with pytest.raises(ValueError) as error:
    compress.compress(Foreign(nnx.Rngs(0)), rules, nnx.Rngs(1))
  for words in told:
    assert words in str(error.value)


def test_weights_out_of_reach_are_reported_with_the_reason():
  model = Unreachable(nnx.Rngs(0))
  report = compress.compress(model, [('.*', RANK_2)], nnx.Rngs(1))
  assert [swap.path for swap in report.swapped] == ['head']
  expected = {
    'einsum/kernel': "axis 'n' in the input, the kernel and the result",
    'lora/kernel': '(6, 6) of LoRALinear; a rule reaches it that says which',
    'lora/lora/lora_a': 'row_axes=(0,)',
    'lora/lora/lora_b': 'row_axes=(0,)',
  }
  assert report.unreached.keys() == expected.keys()
  for path, reason in expected.items():
    assert reason in report.unreached[path]
    assert f'{path}: out of reach, ' in str(report)


@pytest.mark.parametrize(
  'pattern, options, told',
  [
    ('einsum', {}, ["'einsum' matches only what it cannot", "axis 'n' in the"]),
    ('lora.*', {}, ['lora/kernel: (6, 6) of LoRALinear', 'row_axes=(0,)']),
    ('head', dict(row_axes=(0,)), ['head: its layer says', 'leave row_axes']),
    ('lora/kernel', dict(row_axes=(0, 1)), ['lora/kernel', 'not all']),
    ('lora/kernel', dict(row_axes=0), ['lora/kernel', 'row_axes=0']),
    ('lora/kernel', dict(row_axes=(0, 0)), ['row_axes=(0, 0)', 'each once']),
    (
      'lora/kernel',
      dict(row_axes=(-1,)),
      ['row_axes=(-1,)', '(0, 1) of (6, 6)'],
    ),
    ('lora/kernel', dict(row_axes=([0],)), ['row_axes=([0],)', 'each once']),
    (
      'lora/kernel',
      dict(row_axes=(0,), stack_axes=1),
      ['lora/kernel', 'stack_axes=1', 'at least two axes'],
    ),
  ],
)
def test_a_rule_for_what_it_cannot_reach_is_refused(pattern, options, told):
  model = Unreachable(nnx.Rngs(0))
  rules = [('head', RANK_2), (pattern, RANK_2 | options)]
  if pattern == 'head':
    rules = rules[1:]
  with pytest.raises(ValueError) as error:
    compress.compress(model, rules)
  for words in told:
    assert words in str(error.value)
  assert type(model.head) is nnx.Linear


def test_a_model_without_matrices_is_refused():
  norm = nnx.Dict(norm=nnx.LayerNorm(6, rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match='no nnx.Param of it has two axes'):
    compress.compress(norm, [('.*', RANK_2)])
  assert str(compress.compress(norm, [])) == ''
  einsum = nnx.Dict(einsum=Unreachable(nnx.Rngs(0)).einsum)
  with pytest.raises(ValueError, match='no matrix .* einsum/kernel: its equ'):
    compress.compress(einsum, [('.*', RANK_2)])


def test_a_report_says_what_is_larger_than_dense():
  model = nnx.Dict(layer=nnx.Linear(6, 6, rngs=nnx.Rngs(0)))
  report = compress.compress(model, {'layer': dict(name='low_rank', rank=6)})
  line = 'layer: 6 x 6 in 72 numbers, ratio 0.50, more than dense'
  assert str(report) == line
  report = compress.compress(model, {'layer': dict(name='low_rank', rank=3)})
  assert str(report) == 'layer: 6 x 6 in 36 numbers, ratio 1.00'


def test_a_matrix_in_a_tuple_is_refused():
  model = nnx.Dict(pair=nnx.data((nnx.Linear(6, 6, rngs=nnx.Rngs(0)),)))
  model.other = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='pair/0: tuple holds it'):
    compress.compress(model, [('.*', RANK_2)], nnx.Rngs(1))
  assert type(model.other) is nnx.Linear
  with pytest.raises(ValueError, match='the model itself, which cannot'):
    compress.compress(model.other, [('', RANK_2)])


def test_nothing_is_allocated_abstractly():
  report = None

  def make():
    nonlocal report
    model = Foreign(nnx.Rngs(0), dim=31_623)
    model.table = nnx.Embed(31_623, 31_623, rngs=nnx.Rngs(0))  # 10^9 numbers
    rules = [('table', dict(name='tensor_train', tt_rank=4)), ('.*', RANK_2)]
    report = compress.compress(model, rules, nnx.Rngs(1))
    return model

  model = nnx.eval_shape(make)
  _, params, _ = modules.split(model)
  leaves = jax.tree.leaves(params)
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
  assert report.swapped[0].spec.rows == 31_623
  assert report.swapped[0].spec.compression_ratio > 10_000
  assert modules.num_params(params) < 300_000


class SharedVariable(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.Linear(6, 6, rngs=rngs)
    self.second = nnx.Linear(6, 6, rngs=rngs)
    self.third = nnx.Linear(6, 6, rngs=rngs)
    self.second.kernel = self.first.kernel


def test_a_shared_variable_stays_shared():
  model = SharedVariable(nnx.Rngs(0))
  kernel = model.first.kernel.get_value()
  report = compress.compress(
    model, [('second', dict(name='low_rank', rank=6))], fit=True
  )
  assert [swap.path for swap in report.swapped] == ['first = second']
  assert type(model.third) is nnx.Linear
  assert model.first.bias is not model.second.bias
  _, params, _ = modules.split(model)
  assert modules.num_params(params) == 2 * 6 * 6 + 6 * 6 + 3 * 6
  for layer in (model.first, model.second):
    np.testing.assert_allclose(layer.full(), kernel, atol=1e-5)
  again = [('first', RANK_2)]
  assert compress.compress(model, again).swapped[0].path == 'first = second'
  assert model.first.factors['left'] is model.second.factors['left']
  model.first.factors['left'].set_value(jnp.zeros((6, 2)))
  assert not np.any(model.second.full())


def test_a_variable_of_a_layer_and_of_its_model_stays_shared():
  table = nnx.Embed(12, 6, rngs=nnx.Rngs(0))
  model = nnx.Dict(table=table, output=table.embedding)
  report = compress.compress(model, [('table', RANK_2)], fit=True)
  assert [swap.path for swap in report.swapped] == ['table = output']
  _, params, _ = modules.split(model)
  assert modules.num_params(params) == 2 * (12 + 6)
  np.testing.assert_array_equal(model.output[...], model.table.full())


def test_a_part_of_a_matrix_that_is_shared_is_refused():
  model = nnx.Dict(
    first=linear.Linear(6, 6, spec=low_rank_spec(), rngs=nnx.Rngs(0)),
    second=linear.Linear(6, 6, spec=low_rank_spec(), rngs=nnx.Rngs(0)),
  )
  model.second.factors['left'] = model.first.factors['left']
  with pytest.raises(ValueError, match='first and second share a variable'):
    compress.compress(model, [('second', RANK_2)])


def test_a_rule_that_does_not_fit_leaves_the_model_as_it_was():
  model = SharedVariable(nnx.Rngs(0))
  rules = [
    ('third', dict(name='low_rank', rank=2)),
    ('first', dict(name='low_rank', rank=0)),
  ]
  with pytest.raises(ValueError):
    compress.compress(model, rules, nnx.Rngs(0))
  assert type(model.third) is nnx.Linear


def test_bias_is_true_or_false():
  rule = dict(name='low_rank', rank=2, bias='no')
  with pytest.raises(ValueError, match="bias='no'; it is True or False"):
    model = SharedVariable(nnx.Rngs(0))
    compress.compress(model, [('third', rule)], nnx.Rngs(0))


CASES = [
  (jnp.bfloat16, jnp.bfloat16),
  (jnp.bfloat16, jnp.float32),
  (jnp.float32, jnp.bfloat16),
  (None, jnp.float32),
]


@pytest.mark.parametrize('dtype, param_dtype', CASES)
@pytest.mark.parametrize('fit', [False, True])
def test_a_swap_keeps_dtypes_and_attributes(dtype, param_dtype, fit):
  def make():
    options = dict(dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))
    return nnx.Dict(
      table=nnx.Embed(12, 8, **options), up=nnx.Linear(8, 4, **options)
    )

  def results(model):
    x = jnp.ones((3, 8), jnp.float32)
    ids = jnp.asarray([1, 2])
    return [model.up(x), model.table(ids), model.table.attend(x)]

  before, after = make(), make()
  compress.compress(after, [('.*', RANK_2)], nnx.Rngs(1), fit=fit)
  for theirs, ours in zip(results(before), results(after), strict=True):
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
  names = ['in_features', 'out_features', 'dtype', 'param_dtype']
  for name in names:
    assert getattr(after.up, name) == getattr(before.up, name)
  for name in ['num_embeddings', 'features', 'dtype', 'param_dtype']:
    assert getattr(after.table, name) == getattr(before.table, name)
  arrays = jax.tree.leaves(modules.split(after)[1])
  assert {a.dtype for a in arrays} == {jnp.dtype(param_dtype)}
  for ours, theirs, name in [
    (after.up, before.up, 'kernel'),
    (after.table, before.table, 'embedding'),
  ]:
    found = getattr(ours, name)
    np.testing.assert_array_equal(found, ours.full())
    assert found.shape == getattr(theirs, name).shape
    with pytest.raises(AttributeError):
      setattr(ours, name, found)


def test_a_swapped_layer_takes_the_sharding_of_its_result():
  model = nnx.Dict(
    table=nnx.Embed(16, 8, rngs=nnx.Rngs(0)),
    up=nnx.Linear(8, 12, rngs=nnx.Rngs(0)),
  )
  compress.compress(
    model, [('.*', dict(name='tensor_train', tt_rank=2))], nnx.Rngs(1)
  )
  mesh = jax.make_mesh(
    (2, 2),
    ('data', 'model'),
    axis_types=2 * (AxisType.Explicit,),
    devices=jax.devices()[:4],
  )
  ids = np.arange(8, dtype=np.int32).reshape(4, 2)

  def call(ids, *places):
    rows, up, logits = places or (None, None, None)
    x = model.table(ids, out_sharding=rows)
    return (
      x,
      model.up(x, out_sharding=up),
      model.table.attend(x, out_sharding=logits),
    )

  expected = call(ids)
  places = P('data'), P('data', None, 'model'), P(None, None, 'model')
  with jax.set_mesh(mesh):
    placed = jax.device_put(ids, NamedSharding(mesh, P('data')))
    found = jax.jit(lambda ids: call(ids, *places))(placed)
  for ours, theirs, place in zip(found, expected, places, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert ours.sharding.is_equivalent_to(NamedSharding(mesh, place), 3)
