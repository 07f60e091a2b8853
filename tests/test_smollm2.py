"""The study of a pretrained language model, on a tiny one."""

import re

import numpy as np
import pytest

from benchmarks import smollm2, smollm2_report
from tests.pretrained import random_decoder
from tt_compress import parameterizations
from tt_compress.data import token_streams
from tt_compress.nn import modules

LINES = [f'the {word} of {k} words' for k in range(60) for word in ('end', 'a')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A random LLaMA that reads bytes."""
  folder = tmp_path_factory.mktemp('llama')
  settings = dict(vocab_size=262, max_position_embeddings=512)
  return random_decoder.write(folder, 'llama', settings)


@pytest.fixture(scope='module')
def model(folder):
  text = token_streams.TokenStream(LINES, 'lines')
  return smollm2.Model(
    str(folder),
    text,
    text,
    num_calibration=512,
    num_test=600,
    num_probe=16,
    measured=str(folder / 'measured.json'),
  )


@pytest.fixture(scope='module')
def found(model):
  *_, last = smollm2.rows(model, [1.25])
  return last


def test_the_ways_of_a_size_are_compared(model, found):
  dense, *others = found
  ways = [(each['ranks'], each['fit']) for each in others]
  assert ways == [*smollm2.WAYS]
  assert dense['test_tokens'] == 600
  for each in others:
    assert 0.9 * model.num_params / 1.25 < each['params']
    assert each['params'] <= model.num_params / 1.25


def test_fits_of_many_ranks_are_those_of_each(model):
  matrices = modules.matrices(model.model)
  for by in (model.by_weights, model.by_products):
    for path in ('decoder/layers/0/ffn/down', 'decoder/layers/1/attention/key'):
      module = matrices[path]
      for rank in (2, 5):
        spec = parameterizations.make(
          'low_rank', *module.full().shape, rank=rank
        )
        matrix = np.asarray(module.full(), np.float64)
        expected = (
          spec.fit_products(matrix, by.weights[path])
          if by.weights
          else spec.fit(matrix)
        )
        found = spec.full(by(path, spec, matrix))
        np.testing.assert_allclose(found, spec.full(expected), atol=1e-4)


def test_the_highest_rank_changes_nothing(model):
  dense = model.scores(model.params)['test_loss']
  for fit in ('weights', 'products'):
    rules = [
      (re.escape(path), dict(name='low_rank', rank=min(shape)))
      for path, shape in model.shapes.items()
    ]
    params, _ = model.compressed(rules, fit)
    assert model.scores(params)['test_loss'] == pytest.approx(dense, rel=1e-4)


def test_only_what_is_missing_is_done(model, found, folder):
  """What the plans are made from is read again, too."""
  read, texts = smollm2._read(folder / 'measured.json')
  assert (texts['calibration'], texts['probe']) == (512, 16)
  limit = int(model.num_params / 1.25)
  assert read.plan(limit).rules == model.measured.plan(limit).rules
  assert not list(smollm2.rows(model, [1.25], found))
  [again] = smollm2.rows(model, [1.25], found[:-1])
  assert again == found


def test_measurements_of_another_model_are_refused(model, found, monkeypatch):
  del found  # which measures
  monkeypatch.delitem(model.__dict__, 'measured')
  monkeypatch.setattr(model, 'shapes', {})
  with pytest.raises(ValueError, match='measured.json is of another model'):
    model.measured  # noqa: B018
  monkeypatch.undo()
  monkeypatch.delitem(model.__dict__, 'measured')
  monkeypatch.setitem(model._texts, 'probe', 8)
  with pytest.raises(
    ValueError, match="with tokens .*'probe': 16, .* has .* 8"
  ):
    model.measured  # noqa: B018


def test_training_follows_planned_fits_by_products(model, found, tmp_path):
  few = [
    found[0],
    *(r for r in found if (r['ranks'], r['fit']) == smollm2.BEST),
  ]
  *others, [_, done] = smollm2.rows(model, [], few, steps=30, rate=1e-2)
  assert not others
  tuned = done['tuned']
  assert (tuned['steps'], tuned['rate'], tuned['test_tokens']) == (
    30,
    0.01,
    600,
  )
  # The test text is that of the training, as random as the model.
  assert tuned['test_loss'] < done['test_loss'] - 0.5
  page = smollm2_report.table([found[0], done])
  assert f'| {tuned["test_perplexity"]:,.1f} |' in page
  smollm2_report.draw([found[0], done], tmp_path / 'a.png')
  assert (tmp_path / 'a.png').stat().st_size > 10_000


def test_the_page_and_the_figure(found, tmp_path):
  page = smollm2_report.page(
    {
      'command': 'a command',
      'git': 'a commit',
      'machine': {'processor': 'a processor'},
      'file_bytes': found[0]['params'],
      'window': 512,
      'rows': found,
    }
  )
  assert page.count('| planned |') == 2
  assert '8.00 bits per parameter' in page and 'need 16.0 bits' in page
  smollm2_report.draw(found, tmp_path / 'a.png')
  assert (tmp_path / 'a.png').stat().st_size > 10_000
