"""Language modeling, from its tiny configuration to its scores."""

import functools

import jax
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.data import vocabularies
from tt_compress.nn import modules
from tt_compress.tasks import language_modeling, run_vocabulary
from tt_compress.training import build, run

LINES = {
  'train': ['Der Hund', '', 'schläft.'] * 9,
  'validation': ['Die Katze', 'sieht den Hund.'],
  'test': ['Das Buch', 'ist alt.', ''],
}


def make_config(**settings):
  config = configuration.load('configs/wikitext2_bytes.py:tiny')
  config.update_from_flattened_dict(settings)
  return config


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  paths = {}
  for split, lines in LINES.items():
    paths[split] = str(folder / f'{split}.txt')
    (folder / f'{split}.txt').write_text('\n'.join(lines) + '\n')
  return paths


def from_files(files, **settings):
  config = make_config()
  with config.unlocked():
    config.data.source = 'text_stream'
    config.data.options = dict(files=files)
  config.data.window = 8
  config.evaluation.update(max_tokens=None, final_tokens=None, batch_size=3)
  config.update_from_flattened_dict(settings)
  return config


def make_task(config):
  blueprint = build.blueprint(config)
  task = language_modeling.LanguageModeling(config, blueprint.graphdef, None)
  return task, build.initialize(config, None)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(graphdef, variables, ids):
  return modules.merge(graphdef, **variables)(ids)


def mean_loss(task, variables, text, starts):
  """Of the windows of 8 bytes that begin at `starts`, one at a time."""
  losses = []
  for start in starts:
    inputs = text[start : min(start + 8, len(text) - 1)]
    # The model is causal, so what follows has no effect.
    padded = np.frombuffer(inputs.ljust(8, b'x'), np.uint8)[None]
    logits = logits_of(task._graphdef, variables, padded.astype(np.int32))
    logits = np.asarray(logits, np.float64)[0]
    log_p = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    targets = text[start + 1 :]
    losses += [-log_p[t, targets[t]] for t in range(len(inputs))]
  return np.mean(losses)


def test_scores_are_their_definition(files):
  task, variables = make_task(from_files(files))
  text = ('\n'.join(LINES['test']) + '\n').encode()
  scores = task.evaluate(variables, 'test')
  expected = mean_loss(task, variables, text, range(0, len(text) - 1, 8))
  assert scores['num_tokens'] == len(text) - 1
  assert scores['data'] == 'test.txt'
  assert scores['loss'] == pytest.approx(expected, rel=1e-5)
  assert scores['perplexity'] == pytest.approx(2 ** scores['bits_per_byte'])
  assert scores['perplexity'] == pytest.approx(np.exp(scores['loss']))
  assert f'bits per byte = {scores["bits_per_byte"]:.4f}' in task.report(
    'test', scores
  )


def test_losses_of_examples_are_those_of_windows(files):
  task, variables = make_task(from_files(files, **{'evaluation.batch_size': 2}))
  text = ('\n'.join(LINES['test']) + '\n').encode()
  lengths = {0: 8, 8: 8, 16: 2}
  assert len(text) - 1 == sum(lengths.values())
  # As parts of the mean over windows.
  expected = [
    mean_loss(task, variables, text, (start,)) * length / 6
    for start, length in lengths.items()
  ]
  found = task.example_losses(variables, 'test')
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  scores = task.evaluate(variables, 'test')
  assert np.mean(found) == pytest.approx(scores['loss'], rel=1e-6)


def test_perplexities_of_clusters_and_of_words(files):
  cutoffs = (100, 110, 250)
  config = from_files(files, **{'model.cutoffs': cutoffs})
  task, variables = make_task(config)
  text = ('\n'.join(LINES['test']) + '\n').encode()
  losses, clusters = [], []
  model = modules.merge(task._graphdef, **variables)
  for start in range(0, len(text) - 1, 8):
    ids = np.frombuffer(text[start : start + 9], np.uint8).astype(np.int32)
    log_p = model(ids[None, :-1])[0]
    losses += [-log_p[t, target] for t, target in enumerate(ids[1:])]
    clusters += np.searchsorted(cutoffs, ids[1:], side='right').tolist()
  scores = task.evaluate(variables, 'test')
  assert scores['loss'] == pytest.approx(np.mean(losses), rel=1e-5)
  found = task.example_losses(variables, 'test')
  assert np.mean(found) == pytest.approx(scores['loss'], rel=1e-6)
  losses, clusters = np.array(losses), np.array(clusters)
  *expected, empty = [losses[clusters == k] for k in range(4)]
  found = scores['cluster_perplexity']
  assert found.pop('3') is None and not len(empty)
  np.testing.assert_allclose(
    [found[str(k)] for k in range(3)],
    [np.exp(np.mean(each)) for each in expected],
    rtol=1e-4,
  )
  # Das Buch, ist alt., and three ends of lines, but for the first one.
  expected = np.exp(losses.sum() / 6)
  assert scores['word_perplexity'] == pytest.approx(expected, rel=1e-4)
  report = task.report('test', {**scores, 'cluster_perplexity': {'3': None}})
  assert f'per word {scores["word_perplexity"]:,.2f}, normalized' in report
  assert 'frequent words first: -\n' in report


def test_pieces_of_words_have_ends_of_lines(files):
  config = from_files(
    files, **{'data.vocabulary': 'sentencepiece', 'model.vocab_size': 30}
  )
  config.sampling.max_tokens = 5
  task, variables = make_task(config)
  words = task.tokens.value
  ids = [
    i for line in words.encode(LINES['test']) for i in (*line, words.eos_id)
  ]
  found = task._split_batches('test', None).batch(0)
  is_target = found['weights'] > 0
  assert found['inputs'][is_target].tolist() == ids[:-1]
  assert found['targets'][is_target].tolist() == ids[1:]
  scores = task.evaluate(variables, 'test')
  assert scores['num_tokens'] == len(ids) - 1
  # Das Buch, ist alt., and three ends of lines, but for the first one.
  total = scores['loss'] * (len(ids) - 1)
  assert scores['word_perplexity'] == pytest.approx(np.exp(total / 6))
  assert scores['word_perplexity'] > scores['perplexity']
  lines = ['Der Hund', '', 'schläft.']
  answers = task.predict(variables, lines, num_best=2)
  for line, best in zip(lines, answers, strict=True):
    assert len(best) == 2 and all(each.text.startswith(line) for each in best)


def test_words_without_ends_of_lines(files, monkeypatch):
  task, variables = make_task(from_files(files))
  monkeypatch.setattr(type(task.tokens.value), 'eos_id', None)
  scores = task.evaluate(variables, 'test')
  text = ''.join(LINES['test']).encode()
  assert scores['num_tokens'] == len(text) - 1
  # Das Buch, ist alt., but for the first one.
  total = scores['loss'] * (len(text) - 1)
  assert scores['word_perplexity'] == pytest.approx(np.exp(total / 3))


def test_answers_have_the_words_of_the_line(files):
  settings = {'data.vocabulary': 'words', 'model.vocab_size': 9}
  config = from_files(files, **settings)
  config.sampling.max_tokens = 2
  task, variables = make_task(config)
  assert '<unk>' in task.tokens.value.decode(
    task.tokens.value.encode(['Ei'])[0]
  )
  [[answer]] = task.predict(variables, ['Das  Ei'], num_best=1)
  assert answer.text.startswith('Das  Ei')


def test_a_vocabulary_of_another_run_is_refused(files, tmp_path):
  settings = {'data.vocabulary': 'words', 'model.vocab_size': 9}
  config = from_files(files, **settings)

  def make(lines):
    blueprint = build.blueprint(config)
    task = language_modeling.LanguageModeling(
      config, blueprint.graphdef, str(tmp_path)
    )
    if lines:
      other = vocabularies.train(
        'words', lines, max_size=20, cache_dir=str(tmp_path / 'cache')
      )
      other.save(str(tmp_path / 'vocabulary.json'))
    return task

  task = make([])
  facts = task.prepare()
  task.save()
  make([]).verify(facts)
  message = 'vocabulary.json in .* is not the vocabulary that the model was tr'
  with pytest.raises(ValueError, match=message):
    make(['Die Katze']).verify(facts)
  message = 'json has 13 pieces, but model.vocab_size=9; another run wrote it'
  with pytest.raises(ValueError, match=message):
    make(['eins zwei drei vier fünf sechs sieben acht neun']).prepare()


def test_an_evaluation_takes_evenly_spaced_windows(files):
  config = from_files(files)
  config.evaluation.update(max_tokens=17, final_tokens=100)
  task, variables = make_task(config)
  whole = task.evaluate(variables, 'validation')
  found = task.validate(variables)
  text = ('\n'.join(LINES['validation']) + '\n').encode()
  assert whole['num_tokens'] == len(text) - 1 == 25
  # The first and the last of four windows.
  expected = mean_loss(task, variables, text, (0, 24))
  assert found['loss'] == pytest.approx(expected, rel=1e-5)
  config.evaluation.final_tokens = 17
  part = task.evaluate(variables, 'validation')
  assert part['num_tokens'] == 8 + 1
  assert part['loss'] == pytest.approx(expected, rel=1e-5)
  # As if all 25 had this loss: five words and two ends of lines, but the first.
  perplexity = np.exp(expected * 25 / 6)
  assert part['word_perplexity'] == pytest.approx(perplexity, rel=1e-3)


def test_training_sees_every_token_once_per_epoch(files):
  task, _ = make_task(from_files(files, **{'data.batch_size': 4}))
  batches = task.train_batches(batch_multiple=3)
  steps = range(batches.steps_per_epoch)
  orders = []
  for epoch in range(2):
    found = [batches.batch(epoch * len(steps) + step) for step in steps]
    pairs = [
      (int(i), int(t))
      for batch in found
      for i, t, weight in zip(
        *(batch[name].ravel() for name in ('inputs', 'targets', 'weights')),
        strict=True,
      )
      if weight
    ]
    text = ('\n'.join(LINES['train']) + '\n').encode()
    assert sorted(pairs) == sorted(zip(text[:-1], text[1:], strict=True))
    assert len(pairs) == task.num_examples
    orders.append(pairs)
  assert orders[0] != orders[1]
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  shapes = task.batch_shapes(task._config, 3)
  assert shapes == jax.tree.map(abstract, batches.batch(0))


def test_the_tiny_run_learns(tmp_path):
  config = make_config(num_steps=40, **{'evaluation.every': 20})
  config.optimizer.warmup_steps = 5
  trained = run.Run(config, str(tmp_path))
  results = trained.train()
  # Letters of unequal frequency: better than the same for all of them.
  assert results['test']['loss'] < 3.5
  assert results['test']['num_tokens'] == 4096
  assert (tmp_path / 'vocabulary.bytes').read_bytes() == b'bytes'
  check_predictions(config, tmp_path)


def check_predictions(config, workdir):
  lines = ['Der Hund', '', 'Ein langer Satz über den alten Mann']

  def predict(num_best=1, **settings):
    config.sampling.update(settings)
    return run.Run(config, str(workdir)).predict(lines, num_best=num_best)

  likeliest = predict(temperature=0.0)
  for line, [answer] in zip(lines, likeliest, strict=True):
    assert answer.text.startswith(line)
    assert answer.score < 0
    assert 0 <= len(answer.text) - len(line) <= 16
  found = predict(num_best=3, temperature=1.0)
  for best, [top] in zip(found, likeliest, strict=True):
    scores = [answer.score for answer in best]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert top.text not in {answer.text for answer in best}
  assert predict(num_best=3) == found
  assert predict(num_best=3, seed=1) != found
  with pytest.raises(ValueError, match='max_tokens=32 must be less than'):
    predict(max_tokens=32)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'data.window': 33}, 'data.window=33 is longer than model.max_length=32'),
    ({'data.window': 0}, 'data.window=0 must be at least 1'),
    ({'evaluation.max_tokens': 0}, 'evaluation.max_tokens=0 must be at least'),
    ({'data.vocabulary': 'bits'}, "data.vocabulary='bits' is unknown"),
    ({'sampling.top_p': 0.0}, 'sampling.top_p=0.0 must be above 0'),
    ({'sampling.batch_size': 0}, 'sampling.batch_size=0 must be at least 1'),
    ({'sampling.seed': 2**32}, 'sampling.seed=4294967296 .* less than 2^32'),
    ({'seed': 2**40}, 'seed=1099511627776 must be less than 2^32'),
    ({'evaluation.metric': 'bleu'}, "evaluation.metric='bleu' must be 'loss'"),
  ],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message.replace('^', r'\^')):
    configuration.check(make_config(**settings))


def test_a_vocabulary_larger_than_the_model_is_refused():
  bytes_of_run = run_vocabulary.RunVocabulary(
    None, lambda: ['a'], name='bytes', options={}, model=dict(vocab_size=100)
  )
  message = "vocabulary='bytes' of model.vocab_size=100: .* at least 256"
  with pytest.raises(ValueError, match=message):
    _ = bytes_of_run.value


def test_other_models_are_refused():
  config = configuration.defaults(
    'test', configuration.parse(''), task='language_modeling'
  )
  with pytest.raises(ValueError, match="such as decoder; .*'transformer'"):
    configuration.check(config)
