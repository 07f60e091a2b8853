import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import linear, matrix, modules
from tt_compress.parameterizations import base, dense, pruned


class Scaled(base.Parameterization):
  """W = scale * matrix; the scale is a buffer that `project` counts up."""

  buffers = ('state',)

  def init(self, key, *, std, dtype=jnp.float32):
    weight = std * jax.random.normal(key, (self.rows, self.cols), dtype)
    return {'matrix': weight, 'state': {'scale': jnp.ones((), dtype)}}

  def full(self, factors):
    return factors['state']['scale'] * factors['matrix']

  def penalty(self, factors):
    return jnp.sum(factors['matrix'] ** 2)

  def project(self, factors, step):
    return {
      'matrix': jnp.minimum(factors['matrix'], 0.1),
      'state': {'scale': factors['state']['scale'] + step},
    }


class Deep(nnx.Module):
  def __init__(self, rngs, num_layers=12):
    spec = Scaled(rows=3, cols=3)
    self.layers = nnx.List(
      [linear.Linear(3, 3, spec=spec, rngs=rngs) for _ in range(num_layers)]
    )
    self.last = linear.Linear(3, 2, use_bias=False, rngs=rngs)

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return self.last(x)


def test_split_and_merge():
  model = Deep(nnx.Rngs(0))
  graphdef, params, buffers = modules.split(model)
  assert set(params) == {'layers', 'last'}
  assert set(params['layers']) == {str(i) for i in range(12)}
  assert set(params['layers']['0']['factors']) == {'matrix'}
  assert jax.tree.leaves(buffers['layers']['11']) == [1.0]
  # In alphabetical order '10' comes before '2': mark every layer.
  for i in range(12):
    params['layers'][str(i)]['bias'] = jnp.full(3, float(i))
  merged = modules.merge(graphdef, params, buffers)
  for i, layer in enumerate(merged.layers):
    np.testing.assert_array_equal(layer.bias.get_value(), float(i))
  _, again, _ = modules.split(merged)
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_the_merged_model_computes_the_same():
  model = Deep(nnx.Rngs(0))
  x = jnp.arange(3.0)
  merged = modules.merge(*modules.split(model))
  np.testing.assert_array_equal(merged(x), model(x))


def test_keys_of_all_levels_are_strings():
  _, params, buffers = modules.split(Deep(nnx.Rngs(0)))
  for path, _ in jax.tree_util.tree_leaves_with_path((params, buffers)):
    assert all(isinstance(entry.key, str) for entry in path[1:])


def test_state_that_nobody_would_save_is_refused():
  model = Deep(nnx.Rngs(0), num_layers=1)
  model.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
  with pytest.raises(ValueError, match='neither a Param nor a Buffer') as error:
    modules.split(model)
  assert 'dropout/rngs' in str(error.value)


def test_num_params_does_not_count_buffers():
  _, params, buffers = modules.split(Deep(nnx.Rngs(0)))
  assert modules.num_params(params) == 12 * (9 + 3) + 6
  assert modules.num_params(buffers) == 12
  shapes = jax.eval_shape(lambda: params)
  assert modules.num_params(shapes) == 12 * (9 + 3) + 6


def test_matrices_by_path():
  names = {*(f'layers/{i}' for i in range(12)), 'last'}
  assert set(modules.matrices(Deep(nnx.Rngs(0)))) == names


def test_penalty_is_the_sum_of_all():
  model = Deep(nnx.Rngs(0), num_layers=2)
  expected = sum(float(np.sum(layer.full() ** 2)) for layer in model.layers)
  assert modules.penalty(model) == pytest.approx(expected, rel=1e-5)


def test_project_changes_parameters_and_buffers():
  model = Deep(nnx.Rngs(0), num_layers=2)
  dense = np.asarray(model.last.full())
  modules.project(model, jnp.asarray(4))
  for layer in model.layers:
    values = layer.values()
    assert np.max(values['matrix']) <= 0.1
    assert values['state']['scale'] == 5
  np.testing.assert_array_equal(model.last.full(), dense)


def test_buffers_are_wrapped_as_such():
  factors = Deep(nnx.Rngs(0), num_layers=1).layers[0].factors
  assert isinstance(factors['state']['scale'], matrix.Buffer)
  assert isinstance(factors['matrix'], nnx.Param)


def test_what_a_file_holds():
  model = Deep(nnx.Rngs(0), num_layers=2)
  spec = pruned.Pruned(
    rows=3, cols=2, base=dense.Dense(rows=3, cols=2), sparsity=0.5, end=2
  )
  model.last = linear.Linear(3, 2, spec=spec, rngs=nnx.Rngs(1))
  modules.project(model.last, jnp.asarray(2))
  found = modules.stored_size(model)
  # 9 weights and a scale of 32 bits; 3 of 6 weights with a bit for each place.
  expected = {'layers/0': (10, 320), 'layers/1': (10, 320), 'last': (3, 102)}
  assert found['matrices'] == expected
  # And biases of 3, 3 and 2.
  assert (found['numbers'], found['bits']) == (23 + 8, 742 + 8 * 32)


def test_a_shared_matrix_is_stored_once():
  model = Deep(nnx.Rngs(0), num_layers=2)
  model.layers[1] = model.layers[0]
  assert modules.stored_size(model)['numbers'] == 10 + 3 + 6


def test_numbers_as_keys_of_a_dict_are_refused():
  make = lambda: linear.Linear(2, 2, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="the key '11' of an nnx.Dict"):
    modules.split(nnx.Dict({'2': make(), '11': make()}))
