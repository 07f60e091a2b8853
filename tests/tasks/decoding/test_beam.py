"""Beam search against exhaustive search and a plain Python beam search."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.tasks.decoding import beam, greedy, hypotheses

PAD, BOS, EOS = 0, 1, 2
BATCH = 3


def bigram_scores(vocab, *, seed=0, length=12, scale=2.0):
  """Random logits of a language model: [sentence, position, previous, next]."""
  rng = np.random.default_rng(seed)
  shape = BATCH, length, vocab, vocab
  return (scale * rng.standard_normal(shape)).astype(np.float32)


class Bigrams:
  """A model whose cache has to follow its beam: it holds the last id but one.

  The inputs are the numbers of the sentences.
  """

  def __init__(self, table, dtype=jnp.float32, calls=None):
    self.table, self.dtype, self.calls = jnp.asarray(table), dtype, calls

  def start(self, inputs, max_length, beam_size):
    del max_length
    return {'rows': inputs[:, 0]}, {
      'before': jnp.zeros((len(inputs), beam_size), jnp.int32)
    }

  def step(self, context, cache, tokens, index):
    if self.calls is not None:
      jax.debug.callback(lambda index: self.calls.append(int(index)), index)
    # The id before the last, from the cache, shifts the last one's row.
    previous = (tokens + cache['before']) % self.table.shape[-1]
    logits = self.table[context['rows'][:, None], index, previous]
    return logits.astype(self.dtype), {'before': tokens}


SENTENCES = jnp.arange(BATCH)[:, None]


def make_options(max_length, **options):
  return hypotheses.Options(
    max_length=max_length, bos_id=BOS, eos_id=EOS, **options
  )


def next_log_probs(table, sentence, prefix, dtype, num_ids):
  """The same model, one prefix at a time, in float64."""
  before, last = [0, BOS, *prefix][-2:]
  vocab = table.shape[-1]
  logits = table[sentence, len(prefix), (last + before) % vocab]
  logits = np.array(jnp.asarray(logits).astype(dtype).astype(jnp.float32))
  logits = logits.astype(np.float64)
  logits[[PAD, BOS]] = -np.inf
  logits[num_ids:] = -np.inf
  return logits - np.log(np.exp(logits).sum())


def penalized(log_prob, length, alpha):
  return log_prob / ((5 + length) / 6) ** alpha


def exhaustive(table, sentence, limit, alpha, dtype=jnp.float32, num_ids=None):
  """All sequences that end in eos within the limit, best first."""
  num_ids = num_ids or table.shape[-1]
  found = []
  ids = [i for i in range(num_ids) if i not in (PAD, BOS, EOS)]
  for length in range(1, limit + 1):
    for prefix in itertools.product(ids, repeat=length - 1):
      sequence = [*prefix, EOS]
      log_prob = sum(
        next_log_probs(table, sentence, sequence[:i], dtype, num_ids)[token]
        for i, token in enumerate(sequence)
      )
      found.append((penalized(log_prob, length, alpha), sequence))
  return sorted(found, key=lambda pair: -pair[0])


def plain_beam(table, sentence, limit, alpha, beam_size, num_ids=None):
  """The same search as a loop over lists; it never stops early."""
  num_ids = num_ids or table.shape[-1]
  alive, finished = [(0.0, [])], []
  for index in range(limit):
    candidates = []
    for log_prob, prefix in alive:
      gains = next_log_probs(table, sentence, prefix, jnp.float32, num_ids)
      candidates += [
        (log_prob + gain, [*prefix, token])
        for token, gain in enumerate(gains)
        if np.isfinite(gain)
      ]
    candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beam_size]
    finished += [
      (penalized(log_prob, index + 1, alpha), tokens)
      for log_prob, tokens in candidates
      if tokens[-1] == EOS
    ]
    finished = sorted(finished, key=lambda c: -c[0])[:beam_size]
    alive = [c for c in candidates if c[1][-1] != EOS][:beam_size]
  cut = [(penalized(score, limit, alpha), tokens) for score, tokens in alive]
  return finished or cut


@functools.partial(jax.jit, static_argnames=['options', 'beam_size', 'dtype'])
def decode(table, limits, options, *, beam_size, dtype):
  return beam.search(
    Bigrams(table, dtype),
    SENTENCES,
    options,
    beam_size=beam_size,
    limits=limits,
  )


def run(
  table, beam_size, max_length, *, limits=None, alpha=0.6, num_ids=None,
  dtype=jnp.float32,
):  # fmt: skip
  limits = jnp.array(limits or [max_length] * BATCH)
  options = make_options(max_length, length_penalty=alpha, num_ids=num_ids)
  result = decode(table, limits, options, beam_size=beam_size, dtype=dtype)
  return jax.tree.map(np.asarray, result)


def assert_hypotheses(result, sentence, expected, rtol=1e-5):
  tokens, scores, lengths = (field[sentence] for field in result)
  expected = expected[: len(scores)]
  for slot, (score, sequence) in enumerate(expected):
    assert lengths[slot] == len(sequence)
    assert tokens[slot, : len(sequence)].tolist() == sequence
    assert not tokens[slot, len(sequence) :].any()
    np.testing.assert_allclose(scores[slot], score, rtol=rtol, atol=1e-6)
  for slot in range(len(expected), len(scores)):
    assert scores[slot] == -np.inf
    assert lengths[slot] == 0
    assert not tokens[slot].any()


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_a_wide_beam_is_exhaustive(dtype, alpha):
  table = bigram_scores(5)
  result = run(table, 8, max_length=4, dtype=dtype, alpha=alpha)
  assert result.tokens.dtype == result.lengths.dtype == np.int32
  assert result.scores.dtype == np.float32
  for sentence in range(BATCH):
    expected = exhaustive(table, sentence, 4, alpha, dtype)
    assert_hypotheses(result, sentence, expected)


@pytest.mark.parametrize('beam_size', [2, 3, 4])
@pytest.mark.parametrize('alpha', [0.0, 0.6, 1.5])
def test_equals_a_plain_beam_search_that_never_stops_early(beam_size, alpha):
  for seed in range(3):
    table = bigram_scores(9, seed=seed)
    result = run(table, beam_size, max_length=10, alpha=alpha)
    for sentence in range(BATCH):
      expected = plain_beam(table, sentence, 10, alpha, beam_size)
      assert_hypotheses(result, sentence, expected)


@pytest.mark.parametrize('beam_size', [1, 3])
def test_limits_hold_for_each_sentence(beam_size):
  table = bigram_scores(7)
  limits = [0, 3, 9]
  result = run(table, beam_size, max_length=10, limits=limits)
  for sentence, limit in enumerate(limits):
    if beam_size > 1:
      expected = plain_beam(table, sentence, limit, 0.6, beam_size)
      assert_hypotheses(result, sentence, expected)
    assert (result.lengths[sentence] <= limit).all()
  assert result.scores[0, 0] == 0
  assert not result.tokens[0].any()


@pytest.mark.parametrize('beam_size', [1, 2])
def test_without_eos_the_limit_closes_the_best_alive(beam_size):
  table = bigram_scores(9)
  table[..., EOS] = -1e9  # never among the candidates: six others are better
  result = run(table, beam_size, max_length=4, limits=[4, 2, 4])
  assert result.lengths.tolist() == [[n] * beam_size for n in (4, 2, 4)]
  if beam_size > 1:
    for sentence, limit in enumerate([4, 2, 4]):
      expected = plain_beam(table, sentence, limit, 0.6, beam_size)
      assert_hypotheses(result, sentence, expected)


def argmax_chain(table, sentence, limit, alpha, num_ids=None):
  num_ids = num_ids or table.shape[-1]
  log_prob, tokens = 0.0, []
  while len(tokens) < limit and EOS not in tokens:
    gains = next_log_probs(table, sentence, tokens, jnp.float32, num_ids)
    log_prob += gains.max()
    tokens.append(int(gains.argmax()))
  return penalized(log_prob, len(tokens), alpha), tokens


@pytest.mark.parametrize('limits', [(10, 10, 10), (0, 3, 10)])
def test_one_beam_is_the_chain_of_likeliest_ids(limits):
  for seed in range(4):
    table = bigram_scores(7, seed=seed)
    result = run(table, 1, max_length=10, limits=limits, num_ids=6)
    for sentence, limit in enumerate(limits):
      expected = [argmax_chain(table, sentence, limit, 0.6, 6)]
      assert_hypotheses(result, sentence, expected)


def test_ids_that_no_piece_uses_are_never_produced():
  table = bigram_scores(9)
  table[..., 6:] += 20
  result = run(table, 3, max_length=6, num_ids=6)
  for sentence in range(BATCH):
    expected = plain_beam(table, sentence, 6, 0.6, 3, num_ids=6)
    assert_hypotheses(result, sentence, expected)
  assert result.tokens.max() < 6
  assert not (result.tokens == BOS).any()


def count_steps(table, beam_size, **options):
  calls = []
  beam.search(
    Bigrams(table, calls=calls),
    SENTENCES,
    make_options(12),
    beam_size=beam_size,
    **options,
  )
  jax.effects_barrier()
  calls.sort()  # callbacks may overtake each other
  assert calls == list(range(len(calls)))
  return len(calls)


@pytest.mark.parametrize('beam_size', [1, 2])
def test_stops_when_every_sentence_is_closed(beam_size):
  table = bigram_scores(6, scale=0.1)
  table[:, :4, :, EOS] -= 30
  table[:, 4:, :, EOS] += 30  # everything ends with the fifth id
  assert count_steps(table, beam_size) == 5
  limits = jnp.zeros(BATCH, jnp.int32)
  assert count_steps(table, beam_size, limits=limits) == 0
  assert count_steps(table, beam_size, limits=limits + 2) == 2


def test_a_long_hypothesis_may_overtake_while_the_bound_allows_it():
  # eos first costs log 2; the other half goes on for 9 sure ids. By the plain
  # sum they tie, by any length penalty the long one is better.
  table = np.full((BATCH, 12, 4, 4), -30, np.float32)
  table[:, 0, :, EOS] = 0
  table[:, 0, :, 3] = 0
  table[:, 1:9, :, 3] = 0
  table[:, 9, :, EOS] = 0
  result = run(table, 2, max_length=12)
  assert result.lengths[:, 0].tolist() == [10] * BATCH
  assert result.lengths[:, 1].tolist() == [1] * BATCH


def test_a_sentence_does_not_depend_on_its_neighbors():
  table = bigram_scores(8, seed=5)
  both = run(table, 3, max_length=12)
  table[1:, ..., EOS] -= 5  # the neighbors go on for longer
  again = run(table, 3, max_length=12)
  for first, second in zip(both, again, strict=True):
    np.testing.assert_array_equal(first[0], second[0])


def test_one_beam_is_greedy():
  table = bigram_scores(7)
  direct = greedy.search(Bigrams(table), SENTENCES, make_options(8))
  searched = run(table, 1, max_length=8)
  np.testing.assert_array_equal(direct.tokens, searched.tokens)
  assert direct.tokens.shape == (BATCH, 1, 8)


class Misshapen(Bigrams):
  """Starts with one array repeated for two beams."""

  def __init__(self, name, axis):
    super().__init__(bigram_scores(7))
    self.name, self.axis = name, axis

  def start(self, *args):
    found = dict(zip(('context', 'cache'), super().start(*args), strict=True))
    found[self.name] = jax.tree.map(
      lambda x: jnp.repeat(x, 2, axis=self.axis), found[self.name]
    )
    return found['context'], found['cache']


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(beam_size=0), 'beam_size=0'),
    (dict(max_length=0), 'max_length=0'),
    (dict(length_penalty=-0.1), 'length_penalty=-0.1'),
    (dict(length_penalty=float('nan')), 'length_penalty=nan'),
    (dict(num_ids=8), 'num_ids=8 is more than the 7 logits'),
    (
      dict(model=Misshapen('context', 0)),
      r"context\['rows'\] of shape \(6,\).*must be \(3,\)",
    ),
    (
      dict(model=Misshapen('cache', 1)),
      r"cache\['before'\] of shape \(3, 4\).*must be \(3, 2\)",
    ),
  ],
)
def test_bad_input_is_named(options, message):
  options = {'max_length': 4, 'beam_size': 2, **options}
  beam_size = options.pop('beam_size')
  model = options.pop('model', Bigrams(bigram_scores(7)))
  with pytest.raises(ValueError, match=message):
    options = make_options(**options)
    beam.search(model, SENTENCES, options, beam_size=beam_size)
