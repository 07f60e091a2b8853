"""Every setting of an optimizer reaches the update, as NumPy computes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress import configuration, parameterizations
from tt_compress.nn import embed, linear
from tt_compress.training import build, by_path, optimizers

TABLE = 'table/factors/matrix'
LEFT, RIGHT = 'layer/factors/left', 'layer/factors/right'
PARAMS = {
  TABLE: np.array([[1.0, -2.0], [3.0, 4.0]]),
  LEFT: np.array([[0.5, 1.5], [-1.0, 2.0], [-0.5, 1.0]]),
  RIGHT: np.array([[1.0, -1.5], [0.5, 2.0], [-1.0, 0.5], [0.5, 1.0]]),
  'layer/bias': np.ones(4),
}
GRADIENTS = [
  {
    name: np.random.default_rng(step).normal(size=array.shape)
    for name, array in PARAMS.items()
  }
  for step in range(3)
]
# As published, or as optax has them where a paper has none.
OPTIONS = {
  'adam': dict(b1=0.9, b2=0.999, eps=1e-8),
  'adamax': dict(b1=0.9, b2=0.999, eps=1e-8),
  'adagrad': dict(initial_accumulator_value=0.1, eps=1e-7),
  'adafactor': dict(
    decay_rate=0.8,
    clipping_threshold=1.0,
    multiply_by_parameter_scale=True,
    min_dim_size_to_factor=128,
    eps=1e-30,
  ),
  'lamb': dict(b1=0.9, b2=0.999, eps=1e-6),
  'novograd': dict(b1=0.9, b2=0.25, eps=1e-6),
  'sgd': dict(momentum=None),
}
BASE = dict(learning_rate=0.05, schedule='constant', warmup_steps=0)
# Each of them moves the parameters elsewhere than the default value does.
CHANGES = {
  'b1': 0.5,
  'b2': 0.6,
  'eps': 0.1,
  'momentum': 0.7,
  'initial_accumulator_value': 2.0,
  'decay_rate': 0.3,
  'clipping_threshold': 0.4,
  'multiply_by_parameter_scale': False,
  'min_dim_size_to_factor': 2,
  'learning_rate': 0.02,
  'schedule': 'inverse_sqrt',
  'warmup_steps': 4,
  'weight_decay': 0.3,
  'clip_norm': 0.5,
  'frozen': ('layer/.*/left',),
  'rules': (
    ('.*/left', dict(learning_rate=0.5, weight_decay=0.2)),
    ('.*bias', dict(weight_decay=0.4)),
  ),
}
# The relative learning rate and the weight decay that patterns give, by hand.
BY_PATH = {
  'frozen': {LEFT: (0.0, 0.0)},
  'rules': {LEFT: (0.5, 0.2), 'layer/bias': (1.0, 0.4)},
}
FALLS = dict(schedule='milestones', milestones=(2,), final_scale=0.5)
TOGETHER = dict(
  weight_decay=0.3,
  clip_norm=0.5,
  warmup_steps=2,
  frozen=('table.*',),
  rules=(
    ('layer/.*as', dict(learning_rate=2.0, weight_decay=0.1)),
    ('.*', dict(learning_rate=0.5)),
  ),
)
TOGETHER_BY_PATH = {
  TABLE: (0.0, 0.0),
  'layer/bias': (2.0, 0.1),
  LEFT: (0.5, 0.3),
  RIGHT: (0.5, 0.3),
}
DECAYED = dict(weight_decay=0.3)
OF_PRODUCTS = dict(weight_decay_on='product')
# x L R^T with L [3, 2] and R^T [2, 4] in place of W [3, 4].
RATES = {
  **dict.fromkeys(('adam', 'adamax', 'adagrad'), (1 / 2, 3 / 2 / 2)),
  'novograd': (0.5**0.5 / 2, 3 / 2 * (8 / 12) ** 0.5 / 2),
  'sgd': (6 / 12 / 2, (3 / 2) ** 2 * 8 / 12 / 2),
}
AWARE = dict(structure_aware=True)
AWARE_WITH_RULES = AWARE | dict(
  weight_decay=0.3,
  frozen=(TABLE,),
  rules=(('.*right', dict(learning_rate=0.5)),),
)
# A frozen factor is part of the product that the other one decays.
WITH_FROZEN = dict(
  clip_norm=0.5,
  frozen=(LEFT,),
  rules=(('.*right', dict(learning_rate=0.5, weight_decay=0.2)),),
)
WITH_FROZEN_BY_PATH = {LEFT: (0.0, 0.0), RIGHT: (0.5, 0.2)}
# What all optimizers share is changed at once for each, and alone for Adam.
CASES = [
  *(
    (name, {change: CHANGES[change]}, BY_PATH.get(change, {}))
    for name, options in OPTIONS.items()
    for change in CHANGES
    if change in options or (name == 'adam' and change in optimizers.SHARED)
  ),
  ('adam', FALLS, {}),
  ('adam', {**FALLS, 'milestones': (1,)}, {}),
  ('adam', {**FALLS, 'final_scale': 0.1}, {}),
  *((name, TOGETHER, TOGETHER_BY_PATH) for name in OPTIONS),
  *((name, DECAYED | OF_PRODUCTS, {}) for name in OPTIONS),
  *(
    (name, DECAYED | OF_PRODUCTS | WITH_FROZEN, WITH_FROZEN_BY_PATH)
    for name in OPTIONS
  ),
  *(
    (name, AWARE, {LEFT: (left, 0.0), RIGHT: (right, 0.0)})
    for name, (left, right) in RATES.items()
  ),
  (
    'adam',
    AWARE_WITH_RULES,
    {TABLE: (0.0, 0.0), LEFT: (1 / 2, 0.3), RIGHT: (3 / 8, 0.3)},
  ),
]


def settings(**changes):
  config = configuration.defaults('test', configuration.parse('')).optimizer
  config.update({**BASE, **changes})
  return config


@functools.cache
def blueprint():
  """Of a model that has PARAMS: a dense table and a layer of rank 2."""

  def make():
    spec = parameterizations.make('low_rank', 3, 4, rank=2)
    rngs = nnx.Rngs(0)
    return nnx.Dict(
      table=embed.Embed(2, 2, rngs=rngs),
      layer=linear.Linear(3, 4, spec=spec, rngs=rngs),
    )

  model = nnx.eval_shape(make, graph=True)
  return build.of_model(model, report=None, dense_num_params=0)


def nested(flat):
  """As float32 of JAX, in a tree with paths such as 'layer/bias'."""
  tree = {}
  for path, array in flat.items():
    *folders, last = path.split('/')
    node = functools.reduce(lambda n, k: n.setdefault(k, {}), folders, tree)
    node[last] = jnp.asarray(array, jnp.float32)
  return tree


def flat(tree):
  """The inverse of `nested`, in NumPy."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(array)
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def three_updates(optimizer):
  """PARAMS after three updates as NumPy, by path."""
  params = nested(PARAMS)
  state = optimizer.init(params)
  update = jax.jit(optax.with_extra_args_support(optimizer).update)
  for gradients in GRADIENTS:
    updates, state = update(nested(gradients), state, params, buffers={})
    params = optax.apply_updates(params, updates)
  return flat(params)


# The formulas have `pull`, weight decay times the direction of the decay.


def adaptive(name, o, t, g, w, state, pull):
  """Adam, Adamax and LAMB."""
  m = state['m'] = o['b1'] * state.get('m', 0) + (1 - o['b1']) * g
  v = state.get('v', 0)
  if name == 'adamax':
    v = state['v'] = np.maximum(o['b2'] * v, np.abs(g) + o['eps'])
    scale = v
  else:
    v = state['v'] = o['b2'] * v + (1 - o['b2']) * g**2
    scale = np.sqrt(v / (1 - o['b2'] ** t)) + o['eps']
  update = m / (1 - o['b1'] ** t) / scale + pull
  if name == 'lamb':
    update = update * np.linalg.norm(w) / np.linalg.norm(update)
  return update


def adagrad(name, o, t, g, w, state, pull):
  v = state.get('v', o['initial_accumulator_value']) + g**2
  state['v'] = v
  return g / np.sqrt(v + o['eps']) + pull


def adafactor(name, o, t, g, w, state, pull):
  """Algorithms 4 and 5 of the paper, by rms of w as step size."""
  rms = lambda a: np.sqrt(np.mean(a**2))
  rate = 1 - t ** -o['decay_rate']
  new = g**2 + o['eps']
  if g.ndim == 2 and min(g.shape) >= o['min_dim_size_to_factor']:
    rows = rate * state.get('rows', 0) + (1 - rate) * new.sum(1)
    cols = rate * state.get('cols', 0) + (1 - rate) * new.sum(0)
    state.update(rows=rows, cols=cols)
    v = np.outer(rows, cols) / rows.sum()
  else:
    v = state['v'] = rate * state.get('v', 0) + (1 - rate) * new
  update = g / np.sqrt(v)
  update = update / max(1, rms(update) / o['clipping_threshold'])
  if o['multiply_by_parameter_scale']:
    update = update * max(1e-3, rms(w))
  return update + pull


def novograd(name, o, t, g, w, state, pull):
  """v_1 = |g_1|^2, v = b2 v + (1 - b2) |g|^2; m = b1 m + g / ... + decay w."""
  square = np.sum(g**2)
  old = state.get('v')
  v = square if old is None else o['b2'] * old + (1 - o['b2']) * square
  u = g / (np.sqrt(v) + o['eps']) + pull
  state.update(v=v, m=o['b1'] * state.get('m', 0) + u)
  return state['m']


def sgd(name, o, t, g, w, state, pull):
  state['m'] = (o['momentum'] or 0) * state.get('m', 0) + g + pull
  return state['m']


FORMULAS = dict.fromkeys(('adam', 'adamax', 'lamb'), adaptive) | dict(
  adagrad=adagrad, adafactor=adafactor, novograd=novograd, sgd=sgd
)


def learning_rate(config, t):
  peak, warmup = config['learning_rate'], max(config['warmup_steps'], 1)
  rise = min(t / warmup, 1)
  if config['schedule'] == 'inverse_sqrt':
    return peak * min(rise, np.sqrt(warmup / t))
  passed = sum(t > milestone for milestone in config['milestones'] or ())
  return peak * rise * config['final_scale'] ** passed


def expected(config, by_path):
  """Three updates of PARAMS in NumPy."""
  options = OPTIONS[config['name']]
  o = {
    name: value if config[name] is None else config[name]
    for name, value in options.items()
  }
  params, states = dict(PARAMS), {path: {} for path in PARAMS}
  for t, gradients in enumerate(GRADIENTS, 1):
    before = dict(params)
    trained = [path for path in PARAMS if by_path.get(path, (1,))[0]]
    norm = np.sqrt(sum(np.sum(gradients[path] ** 2) for path in trained))
    scale = min(1, (config['clip_norm'] or np.inf) / norm)
    for path in trained:
      w = params[path]
      general = config['weight_decay'] if w.ndim > 1 else 0.0
      relative, decay = by_path.get(path, (1.0, general))
      pull = decay * decaying(config, before, path)
      update = FORMULAS[config['name']](
        config['name'], o, t, scale * gradients[path], w, states[path], pull
      )
      params[path] = w - relative * learning_rate(config, t) * update
  return params


def decaying(config, params, path):
  """The array, or the gradient of ||L R^T||^2 / 2."""
  left, right = params[LEFT], params[RIGHT]
  if config['weight_decay_on'] == 'factors' or path not in (LEFT, RIGHT):
    return params[path]
  product = left @ right.T
  return product @ right if path == LEFT else product.T @ left


def init(config):
  """Shapes of the state."""
  optimizer, _ = optimizers.make(config, 10)
  return jax.eval_shape(optimizer.init, nested(PARAMS))


def distance(some, others):
  return max(np.abs(some[path] - others[path]).max() for path in PARAMS)


@pytest.mark.parametrize('name, changes, by_path', CASES)
def test_every_setting_reaches_the_update(name, changes, by_path):
  base = {}
  if changes.keys() >= FALLS.keys() and changes != FALLS:
    base = FALLS
  elif changes.keys() >= OF_PRODUCTS.keys():
    base = {**changes, 'weight_decay_on': 'factors'}
  config = settings(name=name, **changes)
  optimizer, _ = optimizers.make(config, 100, blueprint=blueprint())
  found, wanted = three_updates(optimizer), expected(config, by_path)
  for path in PARAMS:
    np.testing.assert_allclose(found[path], wanted[path], rtol=2e-5, atol=1e-6)
  default = settings(name=name, **base)
  others = by_path if OF_PRODUCTS.keys() <= base.keys() else {}
  assert distance(wanted, expected(default, others)) > 1e-3


def test_every_setting_is_among_the_cases():
  changed = {setting for _, changes, _ in CASES for setting in changes}
  # Lazy updates are tested in test_lazy.py.
  assert {'name', 'lazy', *changed} == set(settings())
  assert OPTIONS.keys() == optimizers.OPTIMIZERS.keys()
  for name, options in OPTIONS.items():
    assert optimizers.options_of(name) == options
  known = set().union(*OPTIONS.values())
  assert {*known, *optimizers.SHARED} == set(settings())


def test_adafactor_is_that_of_optax():
  theirs = optax.adafactor(0.05, min_dim_size_to_factor=2)
  ours = settings(name='adafactor', min_dim_size_to_factor=2)
  found = three_updates(optimizers.make(ours, 10)[0])
  for path, array in three_updates(theirs).items():
    np.testing.assert_allclose(found[path], array, rtol=1e-6)


CLIPPED = dict(clip_norm=1.0, frozen=('table.*',))


@pytest.mark.parametrize(
  'changes, counters',
  [
    (dict(name='adam'), ['0/count', '1/count']),
    (dict(name='adam', **DECAYED), ['0/count', '2/count']),
    (
      dict(name='adam', **CLIPPED),
      [
        f'inner_states/trained/inner_state/1/{number}/count'
        for number in (0, 1)
      ],
    ),
    (dict(name='lamb'), ['0/count', '3/count']),
    (dict(name='lamb', **DECAYED), ['0/count', '3/count']),
    (dict(name='novograd'), ['0/count', '1/count']),
    (
      dict(name='novograd', **DECAYED),
      [
        f'inner_states/{group}/inner_state/{k}/count'
        for group in ('decayed', 'plain')
        for k in (0, 1)
      ],
    ),
    (dict(name='sgd', momentum=0.9), ['1/count']),
    (dict(name='sgd', momentum=0.9, **DECAYED), ['1/1/count']),
  ],
)
def test_states_have_the_paths_that_saved_runs_have(changes, counters):
  state = init(settings(**changes))
  paths = [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree_util.tree_leaves_with_path(state)
  ]
  assert [path for path in paths if path.endswith('count')] == counters


@pytest.mark.parametrize(
  'changes, told',
  [
    (dict(name='adm'), r"optimizer.name='adm' is unknown; .*adagrad, adam,"),
    (dict(name='adamw'), "'adamw'.*choose 'adam' and set optimizer.w"),
    (
      dict(name='sgd', b1=0.9),
      "optimizer.b1=0.9 is no option of optimizer.name='sgd', .* momentum$",
    ),
    (
      dict(momentum=0.0),
      "momentum=0.0 is no option of optimizer.name='adam', .* b1, b2, eps$",
    ),
    (dict(b1=1.0), 'optimizer.b1=1.0 must be in'),
    (dict(b2=-0.1), 'b2=-0.1'),
    (dict(eps=float('nan')), 'eps=nan'),
    (dict(weight_decay=-1.0), 'weight_decay=-1.0'),
    (dict(clip_norm=0.0), 'clip_norm=0.0'),
    (
      dict(name='lamb', structure_aware=True),
      "structure_aware=True has no rule for optimizer.name='lamb', .* one of "
      'adagrad, adam, adamax, novograd, sgd, or',
    ),
    (
      dict(weight_decay_on='W'),
      "weight_decay_on='W' must be one of 'factors', 'product'",
    ),
    (dict(name='sgd', momentum=1.5), 'momentum=1.5'),
    (dict(name='adafactor', clipping_threshold=0.0), 'clipping_threshold=0.0'),
    (
      dict(rules=(('.*', 0.5),)),
      r"optimizer.rules: '\.\*' has 0.5, which",
    ),
    (dict(rules=(('.*', {}),)), r'has \{\}, .*learning_rate or weight_decay'),
    (dict(rules=(('.*', dict(b1=0.5)),)), "has {'b1': 0.5}"),
    (
      dict(rules=(('.*', dict(learning_rate=-1.0)),)),
      "rules: learning_rate of '.*'=-1.0 must be",
    ),
    (dict(rules=('.*',)), r'rule 0 must be a \(pattern, value\) pair'),
  ],
)
def test_bad_settings(changes, told):
  with pytest.raises(ValueError, match=told):
    optimizers.make(settings(**changes), 100)


@pytest.mark.parametrize(
  'changes',
  [
    dict(frozen=('layers/0',)),
    dict(rules=(('layers/0', dict(learning_rate=0.5)),)),
  ],
)
def test_patterns_that_match_nothing(changes):
  with pytest.raises(ValueError, match="'layers/0' matches none of 4 names"):
    init(settings(**changes))


def test_a_rule_behind_one_that_takes_all():
  rules = (('.*', dict(weight_decay=0.1)), ('table.*', dict(weight_decay=0.0)))
  with pytest.raises(ValueError, match="'table.*' matches only what earlier"):
    init(settings(rules=rules))


def test_a_product_decays_with_all_its_factors():
  """Vectors too, without which a learned scale would not decay."""
  params = {'scale': np.ones(2), 'bias': np.ones(2), 'matrix': np.ones((2, 2))}
  decay = by_path.Decay(0.1, factors=frozenset({'scale', 'matrix'}))
  assert decay.of(params) == {'scale': 0.1, 'bias': 0.0, 'matrix': 0.1}


def test_a_product_without_decay_needs_no_matrices():
  found = three_updates(optimizers.make(settings(**OF_PRODUCTS), 10)[0])
  plain = three_updates(optimizers.make(settings(), 10)[0])
  assert distance(found, plain) == 0
