"""The adaptive softmax against a softmax over the same scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import parameterizations
from tt_compress.algebra import cross_entropy as blocks_of
from tt_compress.algebra import row_ranges
from tt_compress.nn import (
  adaptive_softmax,
  cluster_tables,
  dropout,
  embed,
  modules,
)

ROWS, COLS, CUTOFFS = 23, 8, (5, 6, 16)
WORDS = cluster_tables.ranges(CUTOFFS, ROWS)
SHAPE = (3, 7)
TRAIN = dict(name='tensor_train', tt_rank=3, row_modes=(2, 3, 4))
SPECS = {
  'dense': dict(name='dense'),
  'train': TRAIN,
  'column_major': dict(TRAIN, index_order='column_major'),
  'low_rank': dict(name='low_rank', rank=2),
  'word2ketxs': dict(name='word2ketxs', order=2, rank=2),
  'pruned': dict(
    name='pruned', sparsity=0.5, end=2, base=dict(name='low_rank', rank=2)
  ),
}
TARGETS = {
  'all': np.arange(21).reshape(SHAPE) * 5 % ROWS,
  'no_tail': np.arange(21).reshape(SHAPE) % 5,
  'one_tail': 16 + np.arange(21).reshape(SHAPE) % 7,
}


class Words(nnx.Module):
  """A table of words and its softmax."""

  def __init__(self, spec=None, div_val=1, separate=False):
    rngs = nnx.Rngs(0)
    if separate:
      self.table = cluster_tables.ClusterTables(
        WORDS, COLS, div_val=div_val, std=1.0, rngs=rngs
      )
    else:
      options = dict(spec or SPECS['dense'])
      made = parameterizations.make(options.pop('name'), ROWS, COLS, **options)
      self.table = embed.Embed(ROWS, COLS, spec=made, std=1.0, rngs=rngs)
    self.softmax = adaptive_softmax.AdaptiveSoftmax(
      CUTOFFS, ROWS, COLS, std=1.0, rngs=rngs
    )
    random = np.random.default_rng(0)
    self.bias = nnx.Param(jnp.zeros(ROWS))
    for bias in (self.bias, self.softmax.clusters.bias):
      noise = random.normal(size=bias.get_value().shape)
      bias.set_value(jnp.asarray(noise, jnp.float32))

  def full(self):
    """The matrix of all words."""
    if isinstance(self.table, embed.Embed):
      return self.table.full()
    pieces = [table.full() for table in self.table.clusters]
    if self.table.projections is not None:
      pairs = zip(pieces, self.table.projections, strict=True)
      pieces = [piece @ projection.full() for piece, projection in pairs]
    return jnp.concatenate(pieces)


MODELS = {
  **{name: dict(spec=spec) for name, spec in SPECS.items()},
  'clusters': dict(separate=True),
  'div_val': dict(separate=True, div_val=2),
}
models = pytest.mark.parametrize('name', MODELS)


def inputs(targets='all'):
  random = np.random.default_rng(1)
  x = jnp.asarray(random.normal(size=(*SHAPE, COLS)), jnp.float32)
  weights = jnp.asarray(random.uniform(size=SHAPE), jnp.float32)
  return x, jnp.asarray(TARGETS[targets], jnp.int32), weights


def log_p(model, x):
  """By the definition, a softmax of all scores at a time."""
  scores = x @ model.full().T + model.bias.get_value()
  clusters = model.softmax.clusters
  of_clusters = x @ clusters.full() + clusters.bias.get_value()
  first, *tails = jnp.split(scores, CUTOFFS, axis=-1)
  head = jax.nn.log_softmax(jnp.concatenate([first, of_clusters], -1))
  found = [head[..., : CUTOFFS[0]]]
  for k, tail in enumerate(tails):
    in_head = head[..., CUTOFFS[0] + k, None]
    found.append(in_head + jax.nn.log_softmax(tail))
  return jnp.concatenate(found, axis=-1)


def by_definition(model, x, targets, weights):
  chosen = jnp.take_along_axis(log_p(model, x), targets[..., None], -1)
  return -jnp.sum(chosen[..., 0] * weights)


def loss(model, x, targets, weights):
  return model.softmax.cross_entropy(
    model.table, x, targets, weights, bias=model.bias.get_value()
  )


def differentiate(loss, model, targets='all'):
  """The loss, and its gradients by all parameters, features and weights."""
  graphdef, params, buffers = modules.split(model)
  x, targets, weights = inputs(targets)

  @jax.jit
  def compute(params, x, weights):
    model = modules.merge(graphdef, params, buffers)
    return loss(model, x, targets, weights)

  return jax.device_get(
    jax.value_and_grad(compute, (0, 1, 2))(params, x, weights)
  )


@pytest.fixture
def few(monkeypatch):
  """Room for so little that there are several blocks, of tokens and of rows."""
  monkeypatch.setattr(blocks_of, '_ROOM', {'cpu': 25})
  monkeypatch.setattr(adaptive_softmax, '_LEAST_TAIL', 2)
  monkeypatch.setattr(row_ranges, '_ROOM', {'cpu': 4 * COLS})


def close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    ours,
    theirs,
  )


@models
def test_every_matrix_has_the_loss_of_the_definition(few, name):
  model = Words(**MODELS[name])
  close(differentiate(loss, model), differentiate(by_definition, model))


@pytest.mark.parametrize('targets', TARGETS)
@pytest.mark.parametrize('name', ['train', 'clusters'])
def test_every_batch_is_exact(name, targets):
  model = Words(**MODELS[name])
  close(
    differentiate(loss, model, targets),
    differentiate(by_definition, model, targets),
  )


@pytest.mark.parametrize('is_differentiated', [False, True])
@pytest.mark.parametrize('separate', [False, True])
def test_memory_is_less_than_that_of_all_scores(separate, is_differentiated):
  tokens, rows, cols, cutoffs = 512, 4096, 16, (512, 1024)
  rngs = nnx.Rngs(0)
  words = cluster_tables.ranges(cutoffs, rows)
  spec = parameterizations.make('tensor_train', rows, cols, tt_rank=3)
  table = (
    cluster_tables.ClusterTables(words, cols, rngs=rngs)
    if separate
    else embed.Embed(rows, cols, spec=spec, rngs=rngs)
  )
  softmax = adaptive_softmax.AdaptiveSoftmax(cutoffs, rows, cols, rngs=rngs)
  graphdef, params, buffers = modules.split(table)

  def total(params, x, targets):
    table = modules.merge(graphdef, params, buffers)
    return softmax.cross_entropy(table, x, targets, jnp.ones(tokens))

  function = jax.grad(total, (0, 1)) if is_differentiated else total
  x, targets = jnp.zeros((tokens, cols)), jnp.zeros(tokens, jnp.int32)
  compiled = jax.jit(function).lower(params, x, targets).compile()
  analysis = compiled.memory_analysis()
  assert 0 < analysis.temp_size_in_bytes < 4 * tokens * rows / 2


def test_a_matrix_of_all_words_is_made_once(few, monkeypatch):
  calls = []
  cls = parameterizations.REGISTRY['tensor_train']
  for name in ('full', 'row_blocks', 'take', 'apply', 'attend'):
    method = getattr(cls, name)
    monkeypatch.setattr(
      cls,
      name,
      lambda self, factors, *rest, name=name, method=method, **options: (
        calls.append((name, factors)) or method(self, factors, *rest, **options)
      ),
    )
  model = Words(**MODELS['train'])
  graphdef, params, buffers = modules.split(model)

  def total(params):
    return loss(modules.merge(graphdef, params, buffers), *inputs())

  total(params)
  [(name, factors)] = calls
  assert name == 'full'
  # Outside of all loops, which are traced.
  leaves = jax.tree.leaves(factors)
  assert not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
  jax.grad(total)(params)
  assert [name for name, _ in calls] == ['full', 'full']


@models
def test_log_probabilities_are_those_of_the_definition(name):
  model = Words(**MODELS[name])
  x, *_ = inputs()
  found = model.softmax.log_probabilities(
    model.table, x, bias=model.bias.get_value()
  )
  close(found, log_p(model, x))
  np.testing.assert_allclose(np.sum(np.exp(found), -1), 1, rtol=1e-5)


def test_losses_of_each_cluster():
  model = Words()
  x, targets, weights = inputs()
  sums, totals = model.softmax.cluster_losses(
    model.table, x, targets, weights, bias=model.bias.get_value()
  )
  for k, (start, stop) in enumerate(WORDS):
    here = weights * ((targets >= start) & (targets < stop))
    assert totals[k] == pytest.approx(float(here.sum()))
    assert sums[k] == pytest.approx(
      float(by_definition(model, x, targets, here)), rel=1e-5
    )


@pytest.mark.parametrize('div_val', [1, 2])
def test_rows_of_clusters(div_val):
  model = Words(separate=True, div_val=div_val)
  ids = TARGETS['all']
  close(model.table(ids), model.full()[ids])


@pytest.mark.parametrize('div_val', [1, 2])
def test_rows_of_clusters_have_the_variance_of_one_matrix(div_val):
  words = cluster_tables.ranges((40, 100), 200)
  table = cluster_tables.ClusterTables(
    words, 64, div_val=div_val, rngs=nnx.Rngs(0)
  )
  for start, stop in words:
    variance = np.var(table(np.arange(start, stop)))
    assert variance == pytest.approx(1 / 64, rel=0.2)


@pytest.mark.parametrize('cutoffs', [(3, 3), (0, 2), (2, 9), (4, 2)])
def test_cutoffs_that_do_not_increase_are_refused(cutoffs):
  with pytest.raises(ValueError, match='cutoffs=.*increase.*vocab_size=9'):
    cluster_tables.ranges(cutoffs, 9)


@pytest.mark.parametrize('noisy', ['table', 'clusters', 'projections'])
def test_noise_of_matrices_is_refused(noisy):
  options = dict(name='variational_dropout', every=1, log_sigma=0.0)
  options['base'] = dict(name='dense')
  model = Words(options if noisy == 'table' else None)
  spec = model.table.spec
  if noisy != 'table':
    model = Words(separate=True, div_val=2)
    make = lambda each: parameterizations.make(
      rows=each.spec.rows, cols=each.spec.cols, **options
    )
    chosen = model.softmax.clusters
    if noisy == 'projections':
      chosen = model.table.projections[-1]
    spec = chosen.spec = make(chosen)
  assert spec.has_noise
  noise = dropout.Noise(jax.random.key(0), jnp.arange(3))
  with pytest.raises(ValueError, match='cutoffs.*VariationalDropout does'):
    model.softmax.cross_entropy(model.table, *inputs(), noise=noise)


def test_bfloat16_features_have_a_float32_softmax(few):
  model = Words(separate=True, div_val=2)
  x, targets, weights = inputs()
  value = lambda x: loss(model, x, targets, weights)
  expected, gradient = jax.value_and_grad(value)(x)
  found, rounded = jax.value_and_grad(value)(x.astype(jnp.bfloat16))
  assert (found.dtype, rounded.dtype) == (jnp.float32, jnp.bfloat16)
  # Scores alone are rounded.
  assert found == pytest.approx(float(expected), rel=5e-3)
  apart = np.linalg.norm(rounded.astype(jnp.float32) - gradient)
  assert apart < 0.03 * np.linalg.norm(gradient)
