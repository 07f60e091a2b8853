"""Weights from and to PyTorch and Flax, whose layers compute the same.

PyTorch is no dependency: `pip install torch==2.13.0` in the environment of the
tests runs the comparisons with it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import recurrent_definition as definition
from tt_compress.nn import compress, recurrent, recurrent_weights

BATCH, LENGTH, DIM, HIDDEN = 3, 5, 4, 6
LENGTHS = np.array([5, 1, 3])
BOTH = recurrent.DIRECTIONS


def rows(*shape, seed=0):
  random = np.random.default_rng(seed)
  return random.normal(size=shape).astype(np.float32)


X = rows(BATCH, LENGTH, DIM)


def make(cell='lstm', seed=0, hidden_dim=HIDDEN, **options):
  return recurrent.Recurrent(
    cell, DIM, hidden_dim, rngs=nnx.Rngs(seed), **options
  )


def close(ours, theirs, atol=2e-6):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol),
    ours,
    theirs,
  )


@pytest.fixture(scope='module')
def torch():
  return pytest.importorskip(
    'torch', reason='PyTorch is not installed; the comparison needs it'
  )


def torch_layer(torch, cell, **options):
  options = dict(num_layers=2, bidirectional=True) | options
  torch.manual_seed(0)
  layer = getattr(torch.nn, cell.upper())
  return layer(DIM, HIDDEN, batch_first=True, **options)


def torch_state_dict(cell, num_layers=2):
  """Names and shapes of PyTorch's tensors, as its documentation has them."""
  gates = {'lstm': 4, 'gru': 3}[cell] * HIDDEN
  found = {}
  for number in range(num_layers):
    for end in ('', '_reverse'):
      suffix = f'l{number}{end}'
      found[f'weight_ih_{suffix}'] = gates, (2 * HIDDEN if number else DIM)
      found[f'weight_hh_{suffix}'] = gates, HIDDEN
      found[f'bias_ih_{suffix}'] = found[f'bias_hh_{suffix}'] = (gates,)
  return {
    name: rows(*shape, seed=seed)
    for seed, (name, shape) in enumerate(found.items())
  }


def run_torch(torch, layer, x, lengths):
  """Outputs of a packed batch and last states, as ours."""
  packed = torch.nn.utils.rnn.pack_padded_sequence(
    x, lengths, batch_first=True, enforce_sorted=False
  )
  packed, last = layer(packed)
  y, _ = torch.nn.utils.rnn.pad_packed_sequence(
    packed, batch_first=True, total_length=LENGTH
  )
  last = last if isinstance(last, tuple) else (last,)
  names = ('h', 'c')[: len(last)]
  return y, {
    name: a.swapaxes(0, 1) for name, a in zip(names, last, strict=True)
  }


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_pytorch_computes_the_same(torch, cell):
  theirs = torch_layer(torch, cell)
  x = torch.tensor(X, requires_grad=True)
  expected = run_torch(torch, theirs, x, LENGTHS)
  wanted = [x, *theirs.parameters()]
  gradients = torch.autograd.grad(
    expected[0].square().sum() + expected[1]['h'].sum(), wanted
  )
  numpy = lambda tree: jax.tree.map(lambda a: a.detach().numpy(), tree)
  gradients = dict(
    zip(['x', *theirs.state_dict()], numpy(gradients), strict=True)
  )
  model = make(cell, num_layers=2, directions=BOTH, two_biases=True)
  recurrent_weights.from_torch(model, theirs.state_dict())
  close(model(X, LENGTHS), numpy(expected))

  def loss(model, x):
    y, states = model(x, LENGTHS)
    return jnp.sum(y**2) + jnp.sum(states['h'])

  found, found_x = nnx.grad(loss, argnums=(0, 1))(model, jnp.asarray(X))
  close(found_x, gradients.pop('x'), atol=2e-5)
  nnx.update(model, found)
  close(recurrent_weights.to_torch(model), gradients, atol=2e-5)


@pytest.mark.parametrize('two_biases', [False, True])
def test_pytorch_takes_our_weights(torch, two_biases):
  model = make(num_layers=2, directions=BOTH, two_biases=two_biases)
  choice = dict(name='tensor_train', tt_rank=2)
  compress.compress(model, [('.*', choice)], nnx.Rngs(1))
  theirs = torch_layer(torch, 'lstm')
  theirs.load_state_dict(
    {k: torch.tensor(a) for k, a in recurrent_weights.to_torch(model).items()}
  )
  found = run_torch(torch, theirs, torch.tensor(X), LENGTHS)
  numpy = jax.tree.map(lambda a: a.detach().numpy(), found)
  close(model(X, LENGTHS), numpy)


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_weights_come_back_from_pytorch(cell):
  tensors = torch_state_dict(cell)
  model = make(cell, num_layers=2, directions=BOTH, two_biases=True)
  recurrent_weights.from_torch(model, tensors)
  close(recurrent_weights.to_torch(model), tensors, atol=0)
  # The transposes of PyTorch, in its order of directions.
  w, u, b, c = definition.weights(model.layers[1]['backward'])
  close(w.T, tensors['weight_ih_l1_reverse'])
  close(u.T, tensors['weight_hh_l1_reverse'])
  close((b, c), (tensors['bias_ih_l1_reverse'], tensors['bias_hh_l1_reverse']))


def test_two_biases_become_one_where_they_are_added():
  tensors = torch_state_dict('lstm')
  models = [
    make(num_layers=2, directions=BOTH, two_biases=two_biases)
    for two_biases in (False, True)
  ]
  for model in models:
    recurrent_weights.from_torch(model, tensors)
  close(*(model(X, LENGTHS) for model in models))
  with pytest.raises(ValueError, match='a GRU with one bias .* two_biases=T'):
    model = make('gru', num_layers=2, directions=BOTH)
    recurrent_weights.from_torch(model, torch_state_dict('gru'))


FLAX = {'lstm': nnx.OptimizedLSTMCell, 'gru': nnx.GRUCell}


def run_flax(cell):
  """Outputs of a layer of Flax for sequences of LENGTHS, and last states."""
  layer = nnx.RNN(cell, return_carry=True, rngs=nnx.Rngs(0))
  last, y = layer(jnp.asarray(X), seq_lengths=jnp.asarray(LENGTHS))
  if not isinstance(last, tuple):
    return y, {'h': last}
  return y, {'c': last[0], 'h': last[1]}


@pytest.mark.parametrize('way', ['from_flax', 'to_flax'])
@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_flax_computes_the_same(cell, way):
  model = make(cell)
  ours = model.layers[0]['forward']
  theirs = FLAX[cell](DIM, HIDDEN, rngs=nnx.Rngs(1))
  bias = theirs.dense_i.bias or theirs.dense_h.bias
  for seed, variable in enumerate((bias, ours.input.bias)):
    size = variable.get_value().shape
    variable.set_value(jnp.asarray(rows(*size, seed=seed)))
  getattr(recurrent_weights, way)(ours, theirs)
  y, states = model(X, LENGTHS)
  their_y, their_states = run_flax(theirs)
  is_token = np.arange(LENGTH) < LENGTHS[:, None]
  # Flax goes on behind the end of a sequence.
  their_y = jnp.where(is_token[..., None], their_y, 0)
  close((y, {k: a[:, 0] for k, a in states.items()}), (their_y, their_states))


def test_weights_that_do_not_fit():
  model = make(num_layers=2, directions=BOTH)
  tensors = torch_state_dict('lstm', num_layers=1)
  with pytest.raises(ValueError, match="only one side has .*'bias_hh_l1'"):
    recurrent_weights.from_torch(model, tensors)
  before = recurrent_weights.to_torch(model)
  tensors = torch_state_dict('lstm')
  tensors['bias_hh_l1'] = tensors['bias_hh_l1'][1:]
  with pytest.raises(ValueError, match=r'shapes .* \(23,\) do not .* \(24,\)'):
    recurrent_weights.from_torch(model, tensors)
  close(recurrent_weights.to_torch(model), before, atol=0)
  gru = make('gru', two_biases=True).layers[0]['forward']
  gru.recurrent.bias.set_value(jnp.ones(3 * HIDDEN))
  flax_gru = nnx.GRUCell(DIM, HIDDEN, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='a GRU with one bias'):
    recurrent_weights.to_flax(gru, flax_gru)
