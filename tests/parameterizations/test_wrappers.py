"""What holds for every wrapper, over every base and over each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parameterizations import contract, wrappers
from tt_compress import parameterizations
from tt_compress.nn import compress, linear, modules, serving
from tt_compress.parameterizations import (
  base,
  composed,
  pruned,
  quantized,
  variational_dropout,
  wrapped,
)

NESTED = [
  ('quantized', 'pruned', 'tensor_train'),
  ('pruned', 'variational_dropout', 'word2ket'),
  ('variational_dropout', 'quantized', 'low_rank'),
  ('frozen', 'quantized', 'dense'),
  ('normalized', 'pruned', 'low_rank'),
]
# Where fit finds every matrix that the factors of the base can be.
INEXACT = ('tensor_ring', 'word2ket', 'sum')
THRESHOLD = dict(schedule='threshold', sparsity=None, end=None)
FIT_TOLERANCE = {
  'pruned': 1e-4,
  'quantized': 0.05,
  'variational_dropout': 0.02,
  'normalized': 1e-4,
  'frozen': 1e-4,
}
NAMES = [*((w, b) for w in wrappers.WRAPPERS for b in wrappers.BASES), *NESTED]
CASES = [
  pytest.param(wrappers.make(*names), id='-'.join(names)) for names in NAMES
]


def test_every_entry_is_wrapped_by_every_wrapper():
  assert set(wrappers.BASES) | set(wrappers.WRAPPERS) == set(
    parameterizations.REGISTRY
  )


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_contract(spec):
  for check in contract.QUICK:
    if check is contract.check_defaults and has_scales(spec):
      continue  # Scales are stored beside the factors.
    check(spec)


@pytest.mark.parametrize('names', [('quantized', 'tensor_train'), NESTED[2]])
def test_the_initialization_is_that_of_the_base(names):
  """Given for either of them; also the roles and fans of factors."""
  spec = wrappers.make(*names, initialization='spectral')
  *_, innermost = names
  plain = wrappers.make(innermost, initialization='spectral')
  draw = lambda spec: spec.init(jax.random.key(0), std=0.5, role='rows')
  found, prefix = draw(spec), 'base/' * (len(names) - 1)
  for name, factor in draw(plain).items():
    assert np.array_equal(composed.at(found, prefix + name), factor)
  assert spec.fans('rows') == {
    prefix + name: fans for name, fans in plain.fans('rows').items()
  }
  assert dataclasses.replace(spec) == spec
  message = "initialization='zero' of .* is 'spectral'; leave out one"
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(spec, initialization='zero')


def has_scales(spec):
  if isinstance(spec, quantized.Quantized):
    return True
  return isinstance(spec, wrapped.Wrapped) and has_scales(spec.base)


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_math(spec):
  contract.check_math(wrappers.disturbed(spec))


@pytest.mark.parametrize('base', ['dense', 'tensor_train', 'sum'])
def test_nearest_rows_are_those_of_the_changed_weights(base):
  spec = wrappers.disturbed(wrappers.make('pruned', base))
  contract.check_nearest(spec)


@pytest.mark.sampled
@pytest.mark.parametrize('names', NAMES, ids='-'.join)
def test_fit(names):
  tolerance = sum(FIT_TOLERANCE[name] for name in names[:-1])
  inexact = names[-1] in INEXACT or len(names) > 2
  contract.check_fit(
    wrappers.disturbed(wrappers.make(*names)), 1.0 if inexact else tolerance
  )


@pytest.mark.parametrize('name', wrappers.WRAPPERS)
def test_variance_is_that_of_the_base(name):
  contract.check_std(wrappers.make(name, 'dense'), draws=100)


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('pruned', dict(base={}), 'base of pruned needs a name'),
    ('pruned', dict(base=3), r'base=3 is int, expected dict\(name=...\)'),
    ('pruned', dict(sparsity=1.0), 'sparsity must be .* below 1, got 1.0'),
    ('pruned', dict(sparsity=None), 'needs sparsity.*sparsity=None, end=1'),
    ('pruned', dict(begin=4, end=4), 'begin=4 and end=4: steps must be'),
    ('pruned', dict(every=0), 'every must be .* of at least 1, got 0'),
    ('pruned', dict(schedule='linear'), "schedule must be one of .* 'linear'"),
    ('pruned', dict(max_threshold=1.0), 'max_threshold=1.0 is an option of'),
    ('pruned', dict(schedule='threshold'), 'sparsity=0.3, begin=0 and end=1'),
    ('pruned', THRESHOLD, "schedule='threshold' needs max_threshold"),
    ('pruned', THRESHOLD | dict(max_threshold=0.05), 'below threshold=0.1'),
    (
      'pruned',
      THRESHOLD | dict(max_threshold=1, increment=-1),
      'increment must be at least 0, got -1',
    ),
    ('quantized', dict(bits=1), 'bits must be from 2 to 8, got 1'),
    ('quantized', dict(bits=9), 'bits must be from 2 to 8, got 9'),
    ('quantized', dict(per='row'), "per must be one of .* 'row'"),
    ('variational_dropout', dict(clip=2), 'threshold=3.0 and clip=2: log alp'),
    ('variational_dropout', dict(every=0), 'every must be .* got 0'),
    ('variational_dropout', dict(beta_start=2), r'in \[0, 1\], got 2'),
    ('variational_dropout', dict(beta_step=-1), 'at least 0, got -1'),
  ],
)
def test_make_refuses(name, changes, message):
  with pytest.raises(ValueError, match=message):
    wrappers.make(name, 'dense', **changes)


def test_make_names_what_is_missing():
  with pytest.raises(ValueError, match='quantized needs base'):
    parameterizations.make('quantized', 4, 3)
  with pytest.raises(ValueError, match='variational_dropout needs every'):
    parameterizations.make('variational_dropout', 4, 3, base=dict(name='dense'))


@pytest.mark.parametrize(
  'cls, changes, message',
  [
    (pruned.Pruned, dict(schedule='linear'), "must be one of .* 'linear'"),
    (quantized.Quantized, dict(per='row'), "must be one of .* 'row'"),
    (quantized.Quantized, dict(base='dense'), "parameterization, got 'dense'"),
  ],
)
def test_specs_refuse(cls, changes, message):
  dense = parameterizations.make('dense', 4, 3)
  with pytest.raises(ValueError, match=message):
    cls(**{**dict(rows=4, cols=3, base=dense), **changes})


def test_a_base_may_be_a_spec_of_the_same_shape():
  dense = parameterizations.make('dense', 4, 3)
  spec = parameterizations.make('quantized', 4, 3, base=dense)
  assert spec == parameterizations.make(
    'quantized', 4, 3, base=dict(name='dense')
  )
  with pytest.raises(ValueError, match='base is a matrix of 4 x 3.*rows=4, co'):
    parameterizations.make('quantized', 4, 5, base=dense)
  sized = dict(name='low_rank', compression_ratio=2)
  spec = parameterizations.make('quantized', 40, 40, base=sized)
  assert spec.base.rank == 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counted(base.Parameterization):
  """A base with a penalty, a projection and buffers."""

  buffers = ('state/count',)

  def init(self, key, *, std, dtype=jnp.float32):
    matrix = std * jax.random.normal(key, (self.rows, self.cols), dtype)
    return {'matrix': matrix, 'state': {'count': jnp.ones((), dtype)}}

  def full(self, factors):
    return factors['matrix'] * factors['state']['count']

  def penalty(self, factors):
    return jnp.sum(jnp.abs(factors['matrix']))

  def project(self, factors, step):
    count = factors['state']['count'] + 1
    return {**factors, 'state': {'count': count}}


@pytest.mark.parametrize('name', wrappers.WRAPPERS)
def test_what_the_base_asks_of_a_step_is_kept(key, name):
  spec = wrappers.make(
    name, 'dense', base=Counted(rows=wrappers.ROWS, cols=wrappers.COLS)
  )
  assert 'base/state/count' in spec.buffers
  factors = spec.init(key, std=1.0)
  own = 0.0
  if name == 'variational_dropout':
    log_alpha = spec.log_alpha(factors)['matrix']
    assert set(factors['log_sigma']) == {'matrix'}
    own = 0.14 * np.sum(variational_dropout.divergence(log_alpha))
  inner = spec._effective(factors)['matrix']
  expected = np.sum(np.abs(inner)) + own
  np.testing.assert_allclose(spec.penalty(factors), expected, rtol=1e-5)
  projected = spec.project(factors, jnp.asarray(1))
  assert projected['base']['state']['count'] == 2


@pytest.mark.parametrize(
  'names, expected',
  [
    (('variational_dropout', 'dense'), True),
    (('pruned', 'variational_dropout', 'dense'), True),
    (('variational_dropout', 'tensor_train'), False),
    # Noise on the weights before they are pruned, so on the matrix.
    (('variational_dropout', 'pruned', 'dense'), False),
    (('quantized', 'dense'), False),
  ],
)
def test_examples_have_noise_of_their_own_over_the_matrix_itself(
  names, expected
):
  assert wrappers.make(*names).draws_per_example is expected


@pytest.mark.parametrize('name', ['pruned', 'quantized'])
def test_noise_of_a_base_is_passed_on(name, key):
  spec, factors = wrappers.draw(name, 'variational_dropout', 'dense')
  keys = jax.random.split(key, 3)
  inner = spec._effective(factors)
  ids = jnp.asarray([2, 2, 5])
  for method, argument in (
    ('take', ids),
    ('apply', jnp.ones((3, wrappers.ROWS))),
    ('attend', jnp.ones((3, wrappers.COLS))),
  ):
    found = getattr(spec, method)(factors, argument, key=keys)
    expected = getattr(spec.base, method)(inner, argument, key=keys)
    contract.close(found, expected, 1e-6)
    assert not np.allclose(found[0], found[1])


def test_one_noise_on_a_matrix_is_enough():
  for names in (('dense',), ('pruned', 'variational_dropout', 'dense')):
    with pytest.raises(ValueError, match='leave out one variational_dropout'):
      wrappers.make('variational_dropout', 'variational_dropout', *names)


def test_size_of_nested_factors():
  """16 of 32 entries of 4 bits, their places, and a scale of 32 bits."""
  matrix = (jnp.arange(32.0) < 16).reshape(4, 8).astype(jnp.float32)
  masks = {'matrix': matrix > 0}
  factors = {'base': {'matrix': matrix}, 'mask': masks}
  outer = wrappers.make(
    'quantized', 'pruned', 'dense', rows=4, cols=8, bits=4, per='array'
  )
  expected = 16 + 1, 16 * 4 + 32 + 32
  assert outer.stored_size({'base': factors}) == expected
  inner = wrappers.make('pruned', 'quantized', 'dense', rows=4, cols=8)
  inner = dataclasses.replace(
    inner, base=dataclasses.replace(inner.base, bits=4, per='array')
  )
  factors = {'base': {'base': {'matrix': matrix}}, 'mask': {'base': masks}}
  assert inner.stored_size(factors) == expected
  # A buffer of the base is stored as it is: 24 x 2 x 2 leaves of size 4.
  spec = wrappers.make('quantized', 'word2ket', bits=4, per='array')
  spec = dataclasses.replace(
    spec, base=dataclasses.replace(spec.base, norm='plain')
  )
  assert spec.stored_size(composed.shapes(spec)) == (
    384 + 1 + 1,
    384 * 4 + 32 + 32,
  )


class Model(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Linear(wrappers.ROWS, wrappers.COLS, rngs=rngs)
    self.down = linear.Linear(wrappers.COLS, 4, rngs=rngs)

  def __call__(self, x):
    return self.down(jax.nn.relu(self.up(x)))


@jax.numpy_rank_promotion('allow')  # As above layer 1.
def test_a_compressed_model():
  model = Model(nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(1), (2, wrappers.ROWS))
  rule = dict(
    name='pruned',
    base=dict(name='tensor_train', tt_rank=16),
    sparsity=0.5,
    end=2,
  )
  before = model(x)
  compress.compress(model, [('up', rule)], nnx.Rngs(1), fit=True)
  contract.close(model(x), before, 1e-4)
  graphdef, params, buffers = modules.split(model)
  assert set(params['up']['factors']) == {'base'}
  assert set(buffers['up']['factors']) == {'mask'}
  assert (
    modules.num_params(params['up']) == model.up.spec.num_params + wrappers.COLS
  )

  @wrappers.jit
  def update(params, buffers, step):
    loss = lambda p: jnp.sum(modules.merge(graphdef, p, buffers)(x) ** 2)
    noise = lambda p: jax.random.normal(jax.random.key(0), p.shape)
    moved = jax.tree.map(
      lambda p, g: p - 0.01 * g + 0.01 * noise(p),
      params,
      jax.grad(loss)(params),
    )
    model = modules.merge(graphdef, moved, buffers)
    modules.project(model, step)
    return modules.split(model)[1:]

  for step in (1, 2, 3):
    params, buffers = update(params, buffers, jnp.asarray(step))
  model = modules.merge(graphdef, params, buffers)
  numbers, _ = model.up.spec.stored_size(model.up.values())
  assert numbers == round(0.5 * model.up.spec.num_params)
  expected = model(x)
  serving.expand(model)
  contract.close(model(x), expected, 1e-5)
