"""Lazy updates: those of a loop that skips rows without a gradient."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parameterizations import contract
from tt_compress import configuration, parameterizations
from tt_compress.nn import embed, linear, modules
from tt_compress.parallel import sharding
from tt_compress.training import build, layout, lazy, optimizers, step

USERS, ITEMS, DIM = 40, 24, 8
EXAMPLES, STEPS = 16, 4
RATE = 0.05
TABLES = {'users/factors/matrix', 'items/factors/matrix'}


class Clicks(nnx.Module):
  """Two tables, one of them looked up twice, and a linear layer."""

  def __init__(self, compressed: bool = False, users: int = USERS):
    rngs = nnx.Rngs(0)
    spec = None
    if compressed:
      spec = parameterizations.make(
        'tensor_train', ITEMS, DIM, tt_rank=2, num_modes=2
      )
    self.users = embed.Embed(users, DIM, std=1.0, rngs=rngs)
    self.items = embed.Embed(ITEMS, DIM, std=1.0, spec=spec, rngs=rngs)
    self.head = linear.Linear(DIM, 2, rngs=rngs)


def loss(model, batch, noise, carry):
  del noise
  items = model.items(batch['item']) - model.items(batch['seen'])
  x = model.users(batch['user'])[:, 0] * items
  errors = jnp.tanh(model.head(x)) - batch['y']
  total = jnp.sum(batch['weight'][:, None] * errors**2)
  return total, jnp.sum(batch['weight']), carry


def make_batch(number):
  random = np.random.default_rng(number)
  # Few ids: most are looked up twice, and some in no step.
  draw = lambda rows, *shape: random.integers(0, rows // 3, shape, np.int32)
  batch = {
    'user': draw(USERS, EXAMPLES, 1) * 2 + 1,
    'item': draw(ITEMS, EXAMPLES),
    'seen': draw(ITEMS, EXAMPLES),
    'y': random.normal(size=(EXAMPLES, 2)).astype(np.float32),
    'weight': random.random(EXAMPLES).astype(np.float32) + 0.5,
    'positions': np.arange(EXAMPLES, dtype=np.int32),
  }
  # Padding, which looks up a user of no example.
  batch['user'][-2:] = batch['weight'][-2:] = 0
  return batch


def settings(**changes):
  config = configuration.defaults('test', configuration.parse('')).optimizer
  base = dict(learning_rate=RATE, schedule='constant', warmup_steps=0)
  config.update({**base, 'lazy': ('users|items',), **changes})
  return config


@functools.cache
def blueprint(compressed=False, users=USERS):
  model = nnx.eval_shape(lambda: Clicks(compressed, users), graph=True)
  return build.of_model(model, None, 0)


def make(
  changes,
  *,
  made=None,
  loss=loss,
  data=1,
  model=1,
  accumulation=1,
):
  """The step of a lazy optimizer, shapes of its state, and their shardings."""
  made = made or blueprint()
  mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
  config = settings(**changes)
  optimizer, _ = optimizers.make(config, 10, blueprint=made)
  shapes = jax.eval_shape(lambda v: step.start(v, optimizer), made.variables)
  places = layout.make(mesh, made.variables, made.partitions).shardings(shapes)
  update = step.make_step(
    made.graphdef,
    loss,
    optimizer,
    mesh,
    seed=0,
    num_examples=1,
    accumulation=accumulation,
    shardings=places,
    tables=lazy.tables(config, made),
  )
  start = lambda v: step.initial_state(v, optimizer, mesh, places)
  return update, shapes, start, mesh


def train(changes, compressed=False, **options):
  """({path: array} of the parameters, metrics) after each step."""
  update, _, start, mesh = make(changes, made=blueprint(compressed), **options)
  _, params, buffers = modules.split(Clicks(compressed))
  state, found = start({'params': params, 'buffers': buffers}), []
  for number in range(STEPS):
    state, metrics = update(state, sharding.put(make_batch(number), mesh))
    found.append(jax.device_get((lazy.flat(state['params']), metrics)))
  return found


# -----------------------------------------------------------------------------
# The definition.


def adam(moments, gradient, count, b1=0.9, b2=0.999, eps=1e-8):
  m, v = moments or (0.0, 0.0)
  m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
  change = m / (1 - b1**count) / (np.sqrt(v / (1 - b2**count)) + eps)
  return (m, v), change


def adamax(moments, gradient, count, b1=0.9, b2=0.999, eps=1e-8):
  m, v = moments or (0.0, 0.0)
  m, v = b1 * m + (1 - b1) * gradient, np.maximum(b2 * v, abs(gradient) + eps)
  return (m, v), m / (1 - b1**count) / v


def adagrad(moments, gradient, count):
  (total,) = moments or (0.1,)
  total = total + gradient**2
  return (total,), gradient / np.sqrt(total + 1e-7)


def momentum(moments, gradient, count):
  (trace,) = moments or (0.0,)
  trace = 0.7 * trace + gradient
  return (trace,), trace


RULES = {'adam': adam, 'adamax': adamax, 'adagrad': adagrad, 'sgd': momentum}


@functools.cache
def gradients_of_means(compressed):
  """The function: ({path: array}, batch) -> gradients of the mean loss."""
  graphdef, _, buffers = modules.split(Clicks(compressed))

  def mean(arrays, batch):
    model = modules.merge(graphdef, lazy.nested(arrays), buffers)
    total, weight, _ = loss(model, batch, None, None)
    return total / weight

  return jax.jit(jax.grad(mean))


def by_definition(rule, compressed, clip_norm):
  """(parameters, norm) after each step: dense gradients and loops over rows."""
  _, params, _ = modules.split(Clicks(compressed))
  params = {k: np.array(a) for k, a in lazy.flat(params).items()}
  moments, found = {}, []
  for number in range(STEPS):
    gradients = jax.device_get(
      gradients_of_means(compressed)(params, make_batch(number))
    )
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
    scale = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
    params = {path: array.copy() for path, array in params.items()}
    for path, array in params.items():
      is_table = path in TABLES
      # Arrays that are no tables are a loop of one.
      rows = array if is_table else array[None]
      each = gradients[path] if is_table else gradients[path][None]
      for k, gradient in enumerate(each):
        if is_table and not gradient.any():
          continue
        own, change = rule(moments.get((path, k)), gradient * scale, number + 1)
        moments[path, k] = own
        rows[k] -= RATE * change
    found.append((params, norm))
  return found


@pytest.mark.parametrize(
  'name, clip_norm, compressed',
  [
    ('adam', None, False),
    ('adam', 0.2, False),
    ('adam', 0.2, True),
    ('adamax', None, False),
    ('adagrad', 0.2, False),
    ('sgd', None, False),
  ],
)
def test_update_is_that_of_a_loop(name, clip_norm, compressed):
  changes = dict(name=name, clip_norm=clip_norm)
  if name == 'sgd':
    changes['momentum'] = 0.7
  found = train(changes, compressed)
  expected = by_definition(RULES[name], compressed, clip_norm)
  for (params, metrics), (wanted, norm) in zip(found, expected, strict=True):
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-4)
    for path, array in wanted.items():
      np.testing.assert_allclose(params[path], array, atol=1e-5, err_msg=path)
  if clip_norm:
    assert all(norm > clip_norm for _, norm in expected)


@pytest.mark.parametrize(
  'options',
  [
    dict(data=4),
    dict(data=2, model=2),
    dict(accumulation=2),
    dict(data=2, accumulation=4),
  ],
  ids=str,
)
def test_devices_and_microbatches_change_nothing(options):
  changes = dict(clip_norm=0.2)
  expected = by_definition(adam, False, 0.2)
  for (params, _), (wanted, _) in zip(
    train(changes, **options), expected, strict=True
  ):
    for path, array in wanted.items():
      np.testing.assert_allclose(params[path], array, atol=1e-5, err_msg=path)


def test_rules_set_the_rates_of_tables():
  rules = (('users/.*', dict(learning_rate=0.0)),)
  params, _ = train(dict(rules=rules))[-1]
  _, first, _ = modules.split(Clicks())
  first = lazy.flat(first)
  assert np.array_equal(
    params['users/factors/matrix'], first['users/factors/matrix']
  )
  moved = params['items/factors/matrix'] != first['items/factors/matrix']
  assert moved.any() and not moved.all()


def test_adam_is_sparse_adam():
  torch = pytest.importorskip('torch')
  # So small that it does not matter where it is added.
  eps = 1e-30
  table = torch.nn.Embedding(USERS, DIM, sparse=True)
  first = table.weight.detach().numpy().copy()
  optimizer = torch.optim.SparseAdam(table.parameters(), lr=RATE, eps=eps)
  weights = np.random.default_rng(0).normal(size=(EXAMPLES, DIM))
  weights = weights.astype(np.float32)

  class Table(nnx.Module):
    def __init__(self):
      self.users = embed.Embed(USERS, DIM, rngs=nnx.Rngs(0))

  def squares(model, batch, noise, carry):
    found = model.users(batch['user'][:, 0])
    return jnp.sum(found**2 * weights), jnp.float32(1), carry

  made = build.of_model(nnx.eval_shape(Table, graph=True), None, 0)
  changes = dict(eps=eps, lazy=('users',))
  update, _, start, mesh = make(changes, made=made, loss=squares)
  params = lazy.nested({'users/factors/matrix': jnp.asarray(first)})
  state = start({'params': params, 'buffers': {}})
  for number in range(STEPS):
    batch = make_batch(number)
    state, _ = update(state, sharding.put(batch, mesh))
    ids = torch.from_numpy(batch['user'][:, 0]).long()
    optimizer.zero_grad()
    (table(ids) ** 2 * torch.from_numpy(weights)).sum().backward()
    optimizer.step()
  [found] = jax.tree.leaves(state['params'])
  assert not np.allclose(found, first)
  np.testing.assert_allclose(found, table.weight.detach().numpy(), atol=1e-5)


# -----------------------------------------------------------------------------
# What a step costs, and states.


def test_memory_of_a_step_does_not_depend_on_the_number_of_rows():
  def temporaries(users):
    update, shapes, _, _ = make({}, made=blueprint(users=users))
    lowered = update.lower(shapes, make_batch(0))
    found = lowered.compile(contract.COMPILER).memory_analysis()
    return found.temp_size_in_bytes

  assert temporaries(10**6) == temporaries(10**4)


def test_state_has_the_shapes_of_one_without_lazy_updates():
  _, shapes, _, _ = make({})
  _, expected, _, _ = make(dict(lazy=()))
  assert shapes == expected


# -----------------------------------------------------------------------------
# What is refused.


def refuses(message, changes=None, loss=loss):
  with pytest.raises(ValueError, match=re.escape(message)):
    update, shapes, _, _ = make(changes or {}, loss=loss)
    update.lower(shapes, make_batch(0))


def test_optimizers_that_need_whole_arrays_are_refused():
  refuses("'lamb' does not; choose one of adagrad, adam", dict(name='lamb'))


def test_patterns_without_a_match_are_refused():
  refuses('nothing.*', dict(lazy=('nothing.*',)))


def test_layers_that_are_no_embeddings_are_refused():
  refuses(
    "head is not only looked up (its role is 'product')", dict(lazy=('head',))
  )


def test_decay_of_tables_is_refused():
  refuses('items has weight_decay=0.1', dict(weight_decay=0.1))
  exempt = (('users/.*|items/.*', dict(weight_decay=0.0)),)
  make(dict(weight_decay=0.1, rules=exempt))


def test_tied_logits_are_refused():
  def tied(model, batch, noise, carry):
    x = model.users(batch['user'][:, 0])
    return jnp.sum(model.items.attend(x)), jnp.float32(1), carry

  refuses('optimizer.lazy names items, but the loss needs the whole', loss=tied)


def test_lookups_inside_of_loops_are_refused():
  def looped(model, batch, noise, carry):
    total = lambda id: jnp.sum(model.users(id) * model.items(id))
    return jnp.sum(jax.lax.map(total, batch['item'])), jnp.float32(1), carry

  refuses('is looked up inside of a loop', loss=looped)


def test_tables_that_are_not_looked_up_are_refused():
  def other(model, batch, noise, carry):
    return jnp.sum(model.users(batch['user'])), jnp.float32(1), carry

  refuses('the loss does not call the layer items', loss=other)
