"""Recurrent layers, compared with loops in NumPy and with slow gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.interpreters import partial_eval
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.nn import recurrent_definition as definition
from tests.parameterizations import contract
from tt_compress.algebra import context, cost
from tt_compress.nn import compress, modules, recurrence, recurrent, serving
from tt_compress.nn.dropout import Noise
from tt_compress.planning import traffic

BATCH, LENGTH, DIM, HIDDEN = 3, 5, 4, 6
LENGTHS = np.array([5, 0, 3])
BOTH = recurrent.DIRECTIONS


def rows(*shape, seed=0):
  random = np.random.default_rng(seed)
  return jnp.asarray(random.normal(size=shape), jnp.float32)


X = rows(BATCH, LENGTH, DIM)


def make(cell='lstm', **options):
  options = dict(num_layers=2, directions=BOTH[::-1], two_biases=True) | options
  model = recurrent.Recurrent(cell, DIM, HIDDEN, rngs=nnx.Rngs(0), **options)
  for number, layer in enumerate(modules.matrices(model).values()):
    if layer.bias is not None:
      layer.bias.set_value(rows(layer.out_features, seed=number))
  return model


def close(ours, theirs, atol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol),
    ours,
    theirs,
  )


def noise(seed=1, batch=BATCH):
  return Noise(jax.random.key(seed), jnp.arange(batch))


CASES = {
  'lstm, both, two layers': dict(cell='lstm'),
  'gru, both, two layers': dict(cell='gru'),
  'lstm, forward': dict(
    cell='lstm', num_layers=1, directions=('forward',), two_biases=False
  ),
  'gru, backward': dict(
    cell='gru', num_layers=2, directions=('backward',), two_biases=False
  ),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('has_lengths', [True, False])
def test_it_is_the_definition(case, has_lengths):
  model = make(**CASES[case])
  lengths = LENGTHS if has_lengths else None
  first = {
    name: rows(BATCH, len(model.layers) * len(model.directions), HIDDEN)
    for name in model.layers[0][model.directions[0]].state_names
  }
  for states in (None, first):
    found = jax.jit(model.__call__)(X, lengths, states)
    # Without lengths the state is read behind the padding.
    read = LENGTHS if has_lengths else np.full(BATCH, LENGTH)
    close(found, definition.run(model, X, read, states))


RULES = [
  ('.*/input', dict(name='tensor_train', tt_rank=2, num_modes=2)),
  ('.*/recurrent', dict(name='kronecker', rank=2)),
]


def compressed(cell='lstm', **options):
  model = make(cell, **options)
  report = compress.compress(model, RULES, nnx.Rngs(1))
  assert not report.kept and not report.unreached
  return model


def test_rules_reach_every_matrix():
  paths = modules.matrices(compressed())
  assert list(paths) == [
    f'layers/{number}/{direction}/{part}'
    for number in range(2)
    for direction in sorted(BOTH)
    for part in ('input', 'recurrent')
  ]


def unbound(model, x, lengths, states):
  """The same by calls of cells, token by token, without padding or scan."""
  lengths = [int(length) for length in lengths]
  last = [[] for _ in lengths]
  for layer in model.layers:
    outputs = []
    for direction in model.directions:
      found = []
      for example, length in enumerate(lengths):
        number = len(last[example])
        one = slice(example, example + 1)
        state = {name: a[one, number] for name, a in states.items()}
        h = length * [None]
        times = range(length)
        for t in reversed(times) if direction == 'backward' else times:
          state = layer[direction](x[one, t], state)
          h[t] = state['h'][0]
        last[example].append(state)
        h += (x.shape[1] - length) * [jnp.zeros(HIDDEN)]
        found.append(jnp.stack(h))
      outputs.append(jnp.stack(found))
    x = jnp.concatenate(outputs, axis=-1)
  per_example = [
    jax.tree.map(lambda *a: jnp.concatenate(a), *each) for each in last
  ]
  return x, jax.tree.map(lambda *a: jnp.stack(a), *per_example)


def small_cache(size):
  """A CPU whose cache holds this many numbers."""
  return context.use(
    backend='cpu',
    machine=dataclasses.replace(cost.MACHINES['cpu'], cache=4 * size),
  )


@pytest.mark.parametrize(
  'length, size, block', [(12, 1, 12), (12, 2, 6), (12, 9, 1), (7, 2, 7)]
)
def test_a_block_fits_into_the_cache(length, size, block):
  with small_cache(4 * 12 + 1):
    assert recurrence.block_length(length, size) == block


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_gradients_are_those_of_the_slow_definition(cell):
  graphdef, params, buffers = modules.split(compressed(cell))
  # A short batch: the slow definition has operations for every token.
  x, lengths = X[:2, :4], np.array([4, 1])
  names = recurrent.cells.CELLS[cell].state_names
  states = {name: rows(2, 4, HIDDEN, seed=7) for name in names}

  def value_and_grad(run):
    def loss(params, x, states):
      model = modules.merge(graphdef, params, buffers)
      found = run(model, x, lengths, states)
      return sum(
        jnp.vdot(a, rows(*a.shape, seed=9)) for a in jax.tree.leaves(found)
      )

    function = jax.value_and_grad(loss, (0, 1, 2))
    compiled = jax.jit(function, compiler_options=contract.COMPILER)
    return compiled(params, x, states)

  fast = lambda model, *arguments: model(*arguments)
  expected = value_and_grad(unbound)
  with small_cache(4 * 2 * 2 * 4 * HIDDEN):  # Of blocks of two steps.
    contract.close(value_and_grad(fast), expected, 1e-5)


def test_a_text_can_be_read_in_parts():
  model = make(directions=('forward',))
  whole, last = model(X)
  first, states = model(X[:, :2])
  second, states = model(X[:, 2:], states=states)
  close(jnp.concatenate([first, second], axis=1), whole)
  close(states, last)


def products_in_loops(jaxpr):
  """Shapes of the results of the products in each innermost scan."""
  loops = []
  for equation in jaxpr.eqns:
    inner = jax.tree.leaves(
      tuple(equation.params.values()), is_leaf=lambda a: hasattr(a, 'eqns')
    )
    inner = [each for each in inner if hasattr(each, 'eqns')]
    below = [loop for each in inner for loop in products_in_loops(each)]
    if equation.primitive.name == 'scan' and not below:
      [body] = inner
      # A product that a derivative does not need leaves the program.
      needed, _ = partial_eval.dce_jaxpr(
        body.jaxpr, len(body.out_avals) * [True]
      )
      below = [
        [
          each.outvars[0].aval.shape
          for each in needed.eqns
          if each.primitive.name == 'dot_general'
        ]
      ]
    loops += below
  return loops


def test_loops_hold_recurrent_products_alone():
  model = make()
  # At such a rank the dense product is faster, once there is a dense matrix.
  choice = dict(name='tensor_train', tt_rank=8, num_modes=2)
  compress.compress(model, [('.*', choice)], nnx.Rngs(0))
  graphdef, params, buffers = modules.split(model)

  def loss(params, x):
    return jnp.sum(modules.merge(graphdef, params, buffers)(x)[0])

  # Those of the gradients of W and U come after each loop.
  jaxpr = jax.make_jaxpr(jax.grad(loss))(params, X)
  forward, backward = [(BATCH, 4 * HIDDEN)], [(BATCH, HIDDEN)]
  assert sorted(products_in_loops(jaxpr)) == 4 * [backward] + 4 * [forward]


def test_dropout_is_between_layers():
  model, rate = make(dropout=0.5), 0.5
  first, second = make(num_layers=1), make(num_layers=1)
  first.layers[0] = model.layers[0]
  second.layers[0] = model.layers[1]
  close(model(X, LENGTHS), make()(X, LENGTHS))
  found, states = model(X, LENGTHS, noise=noise())
  close(model(X, LENGTHS, noise=noise()), (found, states), atol=0)
  given = noise()
  hidden, _ = first(X, LENGTHS, noise=given)
  hidden = recurrent.dropout(hidden, rate, given)
  close(found, second(hidden, LENGTHS)[0])
  # Noise depends on the position in the batch alone.
  one, _ = model(
    X[2:], LENGTHS[2:], noise=Noise(jax.random.key(1), jnp.array([2]))
  )
  close(one, found[2:])


def test_variational_dropout_has_one_mask_per_example():
  model = make(dropout=0.5, variational=True)
  ones = jnp.ones((BATCH, LENGTH, 8))
  masks = np.asarray(model._drop(ones, noise()))
  assert set(np.unique(masks)) == {0, 2}
  np.testing.assert_array_equal(masks, masks[:, :1].repeat(LENGTH, axis=1))
  assert len(np.unique(masks[:, 0], axis=0)) == BATCH


def test_stochastic_matrices_draw_noise_in_every_step():
  model = make(num_layers=1, directions=('forward',))
  choice = dict(name='variational_dropout', base=dict(name='dense'), every=1)
  compress.compress(model, [('.*/recurrent', choice)], nnx.Rngs(1))
  cell = model.layers[0]['forward']

  def at(t):
    given = noise()
    given.key()  # of the product with the inputs
    return given.at(t)

  state = cell.start(X[:, 0])
  for t in range(LENGTH):
    h = cell.recurrent(state['h'], at(t))
    state = cell.advance(cell.join(cell.project(X[:, t]), h), state)
  found = model(X, noise=noise())
  close(found[0][:, -1], state['h'])
  assert float(jnp.abs(found[0] - model(X)[0]).max()) > 1e-3


def test_bfloat16_keeps_its_state_in_float32():
  model = compressed()
  found, states = model(X.astype(jnp.bfloat16), LENGTHS)
  assert found.dtype == jnp.bfloat16
  assert {a.dtype for a in states.values()} == {jnp.dtype('float32')}
  expected, expected_states = model(X, LENGTHS)
  close(found.astype(jnp.float32), expected, atol=0.05)
  close(states, expected_states, atol=0.05)


@pytest.mark.parametrize(
  'change',
  [
    serving.expand,
    lambda model: serving.prepare(model, jnp.float32, tokens=BATCH),
  ],
)
def test_prepared_models_compute_the_same(change):
  model = compressed()
  expected = model(X, LENGTHS)
  change(model)
  close(model(X, LENGTHS), expected)


def test_a_model_survives_being_split_and_merged():
  model = make()
  again = modules.merge(*modules.split(model))
  close(again(X, LENGTHS), model(X, LENGTHS), atol=0)


def sharded(params, model, mesh):
  """The params with the matrices of the inputs sharded over the devices."""
  axes = modules.partitions(model)
  assert sum(map(bool, axes.values())) == len(axes) / 2

  def place(path, a):
    names = [entry.key for entry in path]
    axis = axes['/'.join(names[:4])].get('/'.join(names[4:]))
    spec = P() if axis is None else P(*axis * [None], 'model')
    return jax.device_put(a, NamedSharding(mesh, spec))

  return jax.tree_util.tree_map_with_path(place, params)


def test_results_on_a_mesh():
  """Values and gradients in the `shard_map` of the training step."""
  mesh = jax.make_mesh(
    (2, 4), ('data', 'model'), axis_types=2 * (AxisType.Auto,)
  )
  model = make()
  compress.compress(model, RULES[1:], nnx.Rngs(1))
  graphdef, params, buffers = modules.split(model)
  x, lengths = rows(4, LENGTH, DIM), jnp.array([5, 0, 3, 2])

  def sums(params, x, lengths):
    model = modules.merge(graphdef, params, buffers)
    y, states = model(x, lengths)
    return jnp.sum(y**2) + sum(jnp.sum(a) for a in states.values())

  def local(params, x, lengths):
    params = jax.lax.pcast(params, 'data', to='varying')
    loss, found = jax.value_and_grad(sums)(params, x, lengths)
    return jax.lax.psum((loss, found), 'data')

  batch = P('data')
  step = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(P(), batch, batch),
    out_specs=(P(), P()),
    axis_names={'data'},
  )
  arguments = sharded(params, model, mesh), x, lengths
  program = jax.jit(step).lower(*arguments).compile(contract.COMPILER)
  expected = jax.jit(jax.value_and_grad(sums))(params, x, lengths)
  contract.close(program(*arguments), expected, 1e-5)
  found = traffic.transfers(program.as_text(), mesh)
  assert {each.times for each in found} == {1}  # None in the loops.
  gathered = [each.bytes for each in found if each.kind == 'all-gather']
  # Two examples on a device, in two layers and two directions.
  assert gathered == 4 * [4 * 2 * LENGTH * 4 * HIDDEN]


def test_the_forget_gate_can_start_open():
  model = recurrent.Recurrent('lstm', DIM, 2, forget_bias=1.0, rngs=nnx.Rngs(0))
  bias = model.layers[0]['forward'].input.bias.get_value()
  np.testing.assert_array_equal(bias, [0, 0, 1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(cell='rnn'), "cell='rnn' must be one of gru, lstm"),
    (dict(num_layers=0), 'num_layers=0 must be at least 1'),
    (dict(directions=()), 'directions=.* must be'),
    (dict(directions=('forward', 'forward')), 'directions=.* must be'),
    (dict(directions=('up',)), 'directions=.* must be'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)
