"""Summaries: what the model reads, the scores, and the baselines."""

import sys
import types

import numpy as np
import pytest

from tt_compress import configuration, tasks
from tt_compress.tasks import base, summarization
from tt_compress.tasks.scores import rouge

PAIRS = [
  ('This tool plays Ogg files. It is small.', 'Ogg file player'),
  ('A library for tables in C, which is fast.', 'fast library for tables'),
  ('chunk', 'chunk'),
]


def make_config(folder, **settings):
  path = folder / 'pairs.tsv'
  path.write_text(''.join('\t'.join(pair) + '\n' for pair in PAIRS))
  config = configuration.defaults(
    'test', configuration.parse(''), task='summarization'
  )
  config.data.source = 'text'
  config.data.options = dict(
    files={split: str(path) for split in ('train', 'validation', 'test')}
  )
  config.data.update(bucket_lengths=(4, 8), target_length=5)
  config.model.update(source_vocab_size=40, vocab_size=40)
  config.update_from_flattened_dict(settings)
  return config


@pytest.fixture
def make(tmp_path):
  def made(**settings):
    config = make_config(tmp_path, **settings)
    summarization.Summarization.check(config)
    return summarization.Summarization(config, None, None)

  return made


def answers(task, monkeypatch, lines):
  """Makes the task answer with these lines; returns the beams asked for."""
  beams = []

  def generate(variables, source, *, beam_size=None):
    beams.append(beam_size)
    return [[base.Answer(lines[text], 0.0)] for text in source]

  monkeypatch.setattr(task, 'generate', generate)
  monkeypatch.setattr(task, 'mean_loss', lambda *_: 0.0)
  return beams


def test_the_beginning_of_a_text_is_read(make, caplog):
  task = make()
  assert tasks.TASKS['summarization'] is type(task)
  with caplog.at_level('INFO'):
    batches = task.train_batches()
  assert 'cut 66.7 % of 3 texts after 7 tokens' in caplog.text
  rows = [
    row[row != 0].tolist()
    for step in range(batches.steps_per_epoch)
    for row in batches.batch(step)['inputs']
  ]
  cut = task.source.value.encode([pair[0] for pair in PAIRS])
  assert sorted(filter(None, rows)) == sorted(
    [*ids[:7].tolist(), 2] for ids in cut
  )
  # 'library for tables' is 4 of the 4 tokens that the longest headline has.
  assert batches.batch(0)['targets'].shape[1] <= 5
  assert task.num_examples == sum(len(pair[1].split()) + 1 for pair in PAIRS)


def test_long_texts_are_cut_where_they_are_decoded(make):
  task, seen = make(), []

  def searcher(variables, beam_size, num_ids):
    def search(inputs):
      seen.append(inputs.shape)
      return _Found(len(inputs), beam_size)

    return search

  task._decoder = types.SimpleNamespace(searcher=searcher)
  found = task.predict({}, [' '.join(['tool'] * 50), '', 'tool'], num_best=2)
  assert {shape[1] for shape in seen} == {8}
  assert [len(best) for best in found] == [2, 1, 2]
  assert found[1] == [base.Answer('', 0.0)]
  assert task.predict({}, [' ', ''], num_best=1) == 2 * [[base.Answer('', 0.0)]]


class _Found:
  def __init__(self, size, beam_size):
    self.tokens = np.full((size, beam_size, 1), 4)
    self.scores = np.zeros((size, beam_size))


def test_scores_have_baselines_and_greedy_search_beside_them(make, monkeypatch):
  task = make(**{'evaluation.rouge_package': True, 'evaluation.num_samples': 1})
  lines = dict(PAIRS)
  lines[PAIRS[0][0]] = ''
  beams = answers(task, monkeypatch, lines)
  found = task.evaluate({}, 'test')
  assert beams == [None, 1]
  outputs = [lines[pair[0]] for pair in PAIRS]
  references = [pair[1] for pair in PAIRS]
  assert found['rouge_1'] == pytest.approx(100 * 2 / 3)
  assert found['package']['rouge_1'] == pytest.approx(100 * 2 / 3, abs=1e-4)
  assert found['share_cut'] == pytest.approx(2 / 3)
  assert found['num_empty'] == 1 and found['greedy']['num_empty'] == 1
  expected = rouge.f1(outputs, references)
  assert expected.items() <= found.items()
  assert found['copy'] == rouge.f1([pair[0] for pair in PAIRS], references)
  leads = {
    number: rouge.f1(
      [' '.join(pair[0].split()[:number]) for pair in PAIRS], references
    )
    for number in (4, 6, 8, 10)
  }
  best = max(leads, key=lambda number: leads[number]['rouge_sum'])
  assert found['lead'] == {'num_words': best, **leads[best]}
  report = task.report('test', found)
  assert report.splitlines()[-1].startswith('ROUGE-1, 2, L = 66.67, ')
  for line in (
    '66.7% of the texts are cut',
    '1 summaries without words',
    f'lead, its first {best} words: {leads[best]["rouge_1"]:.2f}',
    'copy of the text: ',
    'greedy: 66.67',
    'by the package rouge: 66.67',
    '  summary    ',
  ):
    assert line in report


def test_validation_scores_greedy_summaries_alone(make, monkeypatch):
  task = make(**{'evaluation.max_sentences': 2})
  beams = answers(task, monkeypatch, dict(PAIRS))
  found = task.validate({})
  assert beams == [1]
  # Headlines of two words have two bigrams less than one of unigrams.
  assert found == {'loss': 0.0, 'rouge_sum': pytest.approx(200 + 100 / 2)}
  assert task.metrics == {'rouge_sum': 'max', 'loss': 'min'}
  assert '250.00' in task.progress(found)


def test_an_unknown_word_is_wrong(make):
  task = make()
  score = lambda text: task._scores([text], ['UNK file'])['rouge_1']
  # One of two words is right.
  for unknown in ('<unk>', 'unk', 'UNK'):
    assert score(f'{unknown} file') == pytest.approx(50)
  copied = task._baselines(['UNK file'], ['UNK file'])
  assert copied['copy']['rouge_1'] == copied['lead']['rouge_1'] == 50
  assert task._scores(['chunk'], ['chunk'])['rouge_1'] == 100


def test_a_missing_package_is_told_before_training(make, monkeypatch):
  monkeypatch.setitem(sys.modules, 'rouge', None)
  make().prepare()
  with pytest.raises(ImportError, match='rouge_package=True needs the package'):
    make(**{'evaluation.rouge_package': True}).prepare()


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'evaluation.metric': 'bleu'}, "='bleu' must be 'rouge_sum' or 'loss'"),
    ({'data.target_length': 1}, 'data.target_length=1 must be at least 2'),
  ],
)
def test_bad_settings_are_refused(make, settings, message):
  with pytest.raises(ValueError, match=message):
    make(**settings)


def test_a_malformed_line_is_named(make, tmp_path):
  path = tmp_path / 'bad.jsonl'
  path.write_text('{"source": "a b", "target": "a"}\n{"source": "a b"\n')
  task = make(**{'data.options': dict(files={'train': str(path)})})
  with pytest.raises(ValueError, match=r'bad\.jsonl:2: .*JSON'):
    task.load('train')
