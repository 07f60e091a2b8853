"""The loss of an output layer against that of all of its logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress import parameterizations
from tt_compress.algebra import cross_entropy as blocks_of
from tt_compress.nn import cross_entropy, dropout, embed, modules

ROWS, COLS = 20, 6
SHAPE = (3, 5)
TRAIN = dict(name='tensor_train', tt_rank=3, row_modes=(3, 7), col_modes=(2, 3))
SPECS = {
  'dense': dict(name='dense'),
  'train': TRAIN,
  'column_major': dict(TRAIN, index_order='column_major'),
  'low_rank': dict(name='low_rank', rank=2),
  'ring': dict(name='tensor_ring', tr_rank=2, num_modes=2),
  'word2ketxs': dict(name='word2ketxs', order=2, rank=2, norm='plain'),
  'pruned': dict(
    name='pruned', sparsity=0.5, end=2, base=dict(name='low_rank', rank=2)
  ),
}


def make(**options):
  name = options.pop('name')
  spec = parameterizations.make(name, ROWS, COLS, **options)
  return embed.Embed(ROWS, COLS, spec=spec, std=1.0, rngs=nnx.Rngs(0))


def inputs():
  random = np.random.default_rng(0)
  return (
    jnp.asarray(random.normal(size=ROWS), jnp.float32),
    jnp.asarray(random.normal(size=(*SHAPE, COLS)), jnp.float32),
    jnp.asarray(random.integers(0, ROWS, SHAPE), jnp.int32),
    jnp.asarray(random.uniform(size=SHAPE), jnp.float32),
  )


def by_definition(table, bias, x, targets, weights, noise=None):
  """By optax, of all logits."""
  logits = table.attend(x, noise) + bias
  labels = optax.smooth_labels(jax.nn.one_hot(targets, ROWS), 0.1)
  losses = optax.softmax_cross_entropy(logits, labels)
  return jnp.sum(losses * weights)


def summed(blocks, table, bias, *others, noise=None):
  return cross_entropy.summed(
    table, *others, bias=bias, smoothing=0.1, blocks=blocks, noise=noise
  )


def differentiate(loss, table, make_noise=lambda: None):
  """The loss, and its gradients by the trained factors, bias and features."""
  graphdef, params, buffers = modules.split(table)

  @jax.jit
  def compute(params, bias, x, *others):
    model = modules.merge(graphdef, params, buffers)
    return loss(model, bias, x, *others, noise=make_noise())

  found = jax.value_and_grad(compute, (0, 1, 2))(params, *inputs())
  return jax.device_get(found)


@pytest.fixture
def few(monkeypatch):
  """Room for so few logits that there are several blocks of each kind."""
  monkeypatch.setattr(blocks_of, '_ROOM', {'cpu': 100})
  monkeypatch.setattr(blocks_of, '_ROOM_BY_ROWS', {'cpu': 100})
  monkeypatch.setattr(blocks_of, '_LEAST_ROWS', 1)
  assert blocks_of.token_blocks(15 * ROWS) == 3
  assert blocks_of.row_blocks(15, ROWS) == 4


def close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    ours,
    theirs,
  )


@pytest.mark.sampled
@pytest.mark.parametrize('blocks', [None, 'all', 'rows'])
@pytest.mark.parametrize('name', SPECS)
def test_every_matrix_in_every_way(few, name, blocks):
  table = make(**SPECS[name])
  found = differentiate(functools.partial(summed, blocks), table)
  close(found, differentiate(by_definition, table))


@pytest.mark.sampled
@pytest.mark.parametrize('blocks', [None, 'all', 'rows'])
@pytest.mark.parametrize('base', [dict(name='dense'), TRAIN])
def test_noise_of_the_matrix_is_that_of_all_logits(few, base, blocks):
  """One key an example, or one for all of them: in blocks, the same ones."""
  noisy = dict(name='variational_dropout', every=1, log_sigma=0.0, base=base)
  table = make(**noisy)
  noise = lambda: dropout.Noise(jax.random.key(1), jnp.asarray([4, 2, 0]))
  found = differentiate(functools.partial(summed, blocks), table, noise)
  close(found, differentiate(by_definition, table, noise))
  still = differentiate(functools.partial(summed, blocks), table)
  assert abs(still[0] - found[0]) > 0.1
  close(still, differentiate(by_definition, table))


@pytest.mark.parametrize(
  'name, teacher, blocks',
  [
    ('dense', 'ring', None),
    ('train', 'dense', 'all'),
    ('train', 'ring', 'rows'),
  ],
)
def test_a_teacher_of_any_matrix(few, name, teacher, blocks):
  theirs = make(**SPECS[teacher])
  x = jnp.asarray(np.random.default_rng(1).normal(size=(*SHAPE, COLS)))
  shift = jnp.linspace(-1.0, 1.0, ROWS)
  hints = cross_entropy.Teacher(
    theirs, shift, x.astype(jnp.float32), temperature=2.0, weight=0.3
  )

  def mixed(table, bias, *others, noise=None):
    return cross_entropy.summed(
      table, *others, bias=bias, smoothing=0.1, blocks=blocks, teacher=hints
    )

  def definition(table, bias, x, targets, weights, noise=None):
    """By optax, of all logits."""
    own = by_definition(table, bias, x, targets, weights)
    divergences = optax.kl_divergence(
      jax.nn.log_softmax((table.attend(x) + bias) / 2),
      jax.nn.softmax((theirs.attend(hints.x) + shift) / 2),
    )
    return 0.7 * own + 0.3 * 4 * jnp.sum(divergences * weights)

  table = make(**SPECS[name])
  close(differentiate(mixed, table), differentiate(definition, table))


def test_a_matrix_is_made_once_where_every_block_would_make_it(
  few, monkeypatch
):
  calls = []
  for name in ('full', 'attend'):
    cls = parameterizations.REGISTRY['tensor_train']
    method = getattr(cls, name)
    monkeypatch.setattr(
      cls,
      name,
      lambda *args, name=name, method=method, **options: (
        calls.append(name) or method(*args, **options)
      ),
    )
  _, *others = inputs()
  table = make(**TRAIN)
  for is_made in (True, False):
    monkeypatch.setattr(cls, 'makes_full', lambda *_, is_made=is_made: is_made)
    calls.clear()
    cross_entropy.summed(table, *others)
    assert set(calls) == {'full' if is_made else 'attend'}


def test_bfloat16_features_have_a_float32_softmax():
  table = make(name='dense')
  bias, x, targets, weights = inputs()
  x = x.astype(jnp.bfloat16)
  logits = np.asarray(table.attend(x).astype(jnp.float32) + bias, np.float64)
  log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  picked = np.take_along_axis(log_p, np.asarray(targets)[..., None], -1)
  for blocks in (None, 'rows'):
    found = cross_entropy.summed(
      table, x, targets, weights, bias=bias, blocks=blocks
    )
    # Logits alone are rounded.
    np.testing.assert_allclose(found, -np.sum(picked[..., 0] * weights), 2e-3)


def test_an_unknown_way_is_refused():
  with pytest.raises(ValueError, match="logits_blocks='words' must be 'all'"):
    cross_entropy.check_blocks('words')
