"""Sampling against brute force: distributions, and texts one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from tt_compress import models
from tt_compress.nn import keys, modules
from tt_compress.parallel import sharding
from tt_compress.tasks.decoding import sampler, sampling

VOCAB, EOS = 11, 2
LOGITS = np.random.default_rng(0).normal(size=(40, VOCAB), scale=2)
LOGITS[3] = 0  # all are equally likely
LOGITS[4, 5:] = 80
# The first id has the probability 0.5 exactly, and the next two have the rest.
LOGITS[5] = -60
LOGITS[5, :3] = np.log([0.5, 0.25, 0.25])


def brute_force(logits, temperature=1.0, top_k=None, top_p=1.0):
  """Probabilities of ids, by sorting."""
  order = np.argsort(-logits, kind='stable')
  p = np.exp((logits - logits.max()) / temperature)
  kept = np.full(len(p), True)
  if top_k is not None:
    kept &= p >= p[order[min(top_k, len(p)) - 1]]
  if top_p < 1:
    left = np.where(kept, p, 0)
    count = np.searchsorted(np.cumsum(left[order]) / left.sum(), top_p) + 1
    kept &= p >= p[order[count - 1]]
  return np.where(kept, p, 0) / p[kept].sum()


@pytest.mark.parametrize(
  'options',
  [
    dict(),
    dict(temperature=0.7),
    dict(temperature=1e-3),
    dict(top_k=1),
    dict(top_k=3, temperature=2.0),
    dict(top_k=2**40),
    dict(top_p=0.5),
    dict(top_p=1e-6),
    dict(top_k=5, top_p=0.7, temperature=1.5),
  ],
)
def test_shares_are_those_of_brute_force(options):
  shares = sampling.Options(max_tokens=1, **options).shares(
    jnp.asarray(LOGITS, jnp.float32)
  )
  found = shares / shares.sum(-1, keepdims=True)
  expected = [brute_force(logits, **options) for logits in LOGITS]
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('temperature', [0, 1e-50, 1e-30])
def test_temperature_zero_takes_the_likeliest(temperature):
  options = sampling.Options(max_tokens=1, temperature=temperature)
  shares = options.shares(jnp.asarray(LOGITS, jnp.float32))
  ids = sampling.draw(shares, jnp.full(len(LOGITS), 0.999))
  distinct = [i for i in range(len(LOGITS)) if i not in (3, 4)]
  np.testing.assert_array_equal(
    ids[jnp.array(distinct)], LOGITS[distinct].argmax(-1)
  )


def test_ids_that_are_never_drawn():
  options = sampling.Options(max_tokens=1, never=(0, 4), num_ids=9)
  shares = options.shares(options.allowed(jnp.asarray(LOGITS, jnp.float32)))
  assert np.all((np.asarray(shares) > 0)[:, [1, 2, 3, 5, 6, 7, 8]])
  np.testing.assert_array_equal(shares[:, [0, 4, 9, 10]], 0)


def test_draws_invert_the_distribution():
  # Two ids per block, and one of padding.
  shares = np.array([0, 3, 0, 1, 4, 0, 0], np.float32)
  uniform = (np.arange(800) + 0.5) / 800
  ids = sampling.draw(
    jnp.tile(shares, (800, 1)), jnp.asarray(uniform, jnp.float32)
  )
  np.testing.assert_array_equal(np.bincount(ids, minlength=7), 100 * shares)
  bounds = jnp.asarray([0, 1 - 2**-24], jnp.float32)
  ends = sampling.draw(jnp.tile(shares, (2, 1)), bounds)
  assert [*map(int, ends)] == [1, 4]


SIZES = dict(vocab_size=VOCAB, model_dim=8, ffn_dim=12, num_heads=2)
TEXTS = [[5], [4, 3, 9], [1, 10, 7, 7, 7], [8] * 12, [6, 8]]
STEPS = 6
NEVER = (0, 1)


class Case:
  """A model, samplers of it, and its uncached logits."""

  def __init__(self, name, **options):
    make, module = models.MODELS[name]
    config = make(**SIZES, num_layers=1, dropout=0.0, **options)
    model = module(config, rngs=keys.Rngs(0), dtype=jnp.float32)
    self.graphdef, params, buffers = modules.split(model)
    # So large that every id matters.
    random = np.random.default_rng(0)
    draw = lambda a: jnp.asarray(0.6 * random.normal(size=a.shape), a.dtype)
    params = jax.tree.map(draw, params)
    self.variables = dict(params=params, buffers=buffers)
    self.model = modules.merge(self.graphdef, **self.variables)
    self._logits = jax.jit(self._logits_of)

  def samples(
    self,
    texts=TEXTS,
    num_samples=1,
    *,
    max_length=None,
    place=lambda variables: variables,
    **settings,
  ):
    settings = {**sampler.defaults(), 'max_tokens': STEPS, **settings}
    continued = sampler.Sampler(
      self.graphdef, config_dict.ConfigDict(settings), max_length=max_length
    )
    ids = [np.array(text) for text in texts]
    variables = place(self.variables)
    return continued(variables, ids, num_samples, eos_id=EOS, never=NEVER)

  def _logits_of(self, tokens):
    if not hasattr(self.model, 'read'):
      return self.model(tokens)
    shapes = self.model.config.memory_shapes(1)
    memory = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return self.model.project(self.model.read(tokens, memory)[0])

  def logits(self, text):
    """Of the id after a text, read as a whole."""
    padded = np.pad(text, (0, 20 - len(text)))[None].astype(np.int32)
    return np.asarray(self._logits(padded)[0, len(text) - 1], np.float64)

  def expected(self, text, key, **options):
    """A continuation and its score, an id at a time, without a cache."""
    found, score = [], 0.0
    while len(found) < STEPS and EOS not in found:
      logits = self.logits([*text, *found])
      logits[list(NEVER)] = -np.inf
      uniform = jax.random.uniform(jax.random.fold_in(key, len(found)))
      sums = np.cumsum(brute_force(logits, **options))
      found.append(int(np.searchsorted(sums, uniform, side='right')))
      score += np.log(brute_force(logits)[found[-1]])
    return found, score


@pytest.fixture(scope='module')
def learned():
  return Case('decoder', max_length=20)


@pytest.fixture(scope='module')
def rotary():
  return Case('decoder', max_length=20, positions='rotary', cutoffs=(4, 7))


@pytest.fixture(scope='module')
def with_memory():
  return Case('transformer_xl', memory_length=20)


@pytest.mark.parametrize('name', ['learned', 'rotary', 'with_memory'])
def test_continuations_are_those_of_the_uncached_model(name, request):
  case = request.getfixturevalue(name)
  options = dict(temperature=1.3, top_k=8, top_p=0.9)
  found = case.samples(num_samples=2, seed=7, **options)
  assert len({tuple(ids) for each in found for ids, _ in each}) > 4
  for index, text in enumerate(TEXTS):
    key = jax.random.fold_in(jax.random.key(7), index)
    expected = [
      case.expected(text, jax.random.fold_in(key, sample), **options)
      for sample in range(2)
    ]
    expected.sort(key=lambda answer: -answer[1])
    for (ids, score), (expected_ids, expected_score) in zip(
      found[index], expected, strict=True
    ):
      assert ids.tolist() == expected_ids
      assert score == pytest.approx(expected_score, rel=1e-4)


def on_a_mesh(variables):
  mesh = sharding.make_mesh(data=2, devices=jax.devices()[:2])
  return jax.device_put(variables, sharding.replicated(mesh))


def ids_of(found):
  return [[ids.tolist() for ids, _ in each] for each in found]


def test_samples_depend_on_the_seed_and_not_on_the_batch(learned):
  found = ids_of(learned.samples())
  assert ids_of(learned.samples(batch_size=2)) == found
  assert ids_of(learned.samples(seed=1)) != found
  assert ids_of(learned.samples(place=on_a_mesh)) == found
  # The first text is padded to another length.
  assert ids_of(learned.samples(TEXTS[:1])) == found[:1]
  [greedy] = ids_of(learned.samples([TEXTS[1]] * 3, 2, temperature=0))[::3]
  assert greedy[0] == greedy[1]
  assert greedy[0] == learned.expected(TEXTS[1], jax.random.key(0), top_k=1)[0]


def test_long_texts_are_continued_from_their_last_tokens(learned, caplog):
  long = [*range(3, 11)] * 3
  cut = long[-(20 - STEPS) :]
  found = ids_of(learned.samples([long], max_length=20))
  assert found == ids_of(learned.samples([cut], max_length=20))
  assert '1 of 1 texts are longer than 14 tokens' in caplog.text
  with pytest.raises(ValueError, match='max_tokens=6 must be less than .*=6'):
    learned.samples(max_length=6)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(max_tokens=0), 'max_tokens=0 must be at least 1'),
    (dict(temperature=-1), 'temperature=-1 must be 0 .* or more'),
    (dict(temperature=float('nan')), 'temperature=nan must be 0'),
    (dict(top_k=0), 'top_k=0 must be at least 1'),
    (dict(top_p=0), 'top_p=0 must be above 0 and at most 1'),
    (dict(top_p=1.5), 'top_p=1.5 must be above 0'),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    sampling.Options(**{'max_tokens': 1, **options})
