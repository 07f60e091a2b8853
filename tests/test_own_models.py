"""The program that makes trained models smaller, on a tiny run."""

import copy
import json

import pytest
from absl.testing import flagsaver

from benchmarks import own_models, own_models_report
from tests.training import test_origin

trained = test_origin.trained
SCORES = ('loss', 'accuracy')


@pytest.fixture(scope='module')
def model(trained):
  return own_models.Model(trained.workdir, beam_size=1)


@pytest.fixture(scope='module')
def found(model):
  with pytest.MonkeyPatch.context() as patch:
    patch.delitem(own_models._UNIFORM, 'trains of 2 cores')
    *_, last = own_models.rows(model, [2.0])
  return copy.deepcopy(last)


def test_ways_of_one_size_are_compared(trained, found):
  dense, *fitted = found
  assert dense['params'] == trained.results()['num_params']
  assert dense['accuracy'] == trained.results()['test']['accuracy']
  ways = {(each['ranks'], each['fit']) for each in fitted}
  assert len(ways) == len(fitted) == 6
  for each in fitted:
    assert 0.3 * dense['params'] < each['params'] <= dense['params'] / 2
    assert each['validation_loss'] > 0
  by = {(each['ranks'], each['fit']): each['errors'] for each in fitted}
  weights, products = (
    by['low rank', fit]['layers/0'] for fit in ('weights', 'products')
  )
  assert weights[0] < products[0] and weights[1] is None


def test_only_what_is_missing_is_done(model, found, monkeypatch):
  monkeypatch.delitem(own_models._UNIFORM, 'trains of 2 cores')
  monkeypatch.setattr(
    own_models.Model, 'compressed', lambda *_: pytest.fail('fitted again')
  )
  steps = lambda some: list(own_models.rows(model, [2.0], 2, 0.5, some))
  some = [dict(each, tuned={}) for each in found]
  del some[3]['tuned']
  [done] = steps(some)
  tuned, own = done[3]['tuned'], done[3]
  assert own['fit'] == 'layer_by_layer'
  # The run fits by itself, from the same matrices.
  for name in SCORES:
    assert tuned['before'][name] == pytest.approx(own[name], rel=1e-4)
  assert tuned['loss'] != tuned['before']['loss']
  assert (tuned['steps'], tuned['rate']) == (2, 0.5)
  assert not steps(done)


def test_fits_and_training_can_be_left_out(model, found, monkeypatch):
  monkeypatch.setattr(
    own_models.Model, 'fine_tuned', lambda *args: dict(trained=args[2])
  )
  some = [found[0], *(each for each in found if each.get('fit') == 'weights')]
  some += [each for each in found if each.get('fit') == 'products']
  monkeypatch.delitem(own_models._UNIFORM, 'trains of 2 cores')
  chosen = dict(fits=['weights', 'products'], tuned=['products'])
  *_, done = own_models.rows(model, [2.0], 2, 0.5, some, **chosen)
  assert len(done) == len(some) == 5
  assert [
    each.get('tuned') for each in done if each.get('fit') == 'weights'
  ] == ([None, None])
  assert [each['tuned'] for each in done if each.get('fit') == 'products'] == (
    [dict(trained='products')] * 2
  )


def test_records_of_another_run_are_refused(model, found):
  for digest in ('another', None):
    other = [dict(found[0], params_sha256=digest), *found[1:]]
    with pytest.raises(ValueError, match=f'parameters {digest}, .* --scores='):
      next(own_models.rows(model, [2.0], found=other))


def test_the_page_has_scores_before_and_after(found, tmp_path):
  after = dict(steps=2, rate=0.5, seconds=1.0, loss=1.0, accuracy=0.5)
  some = [found[0], dict(found[1], tuned=after), *found[2:]]
  page = own_models_report.page(
    {
      'command': 'a command',
      'git': 'a commit',
      'machine': {'processor': 'a processor'},
      'models': {'mnist': some},
    },
    'a_figure',
  )
  own_models_report.draw({'mnist': some, 'm': some}, tmp_path / 'a.png')
  assert (tmp_path / 'a.png').stat().st_size > 10_000
  assert '](a_figure.png)' in page
  assert page.count('| planned |') == 3 and '| test accuracy |' in page
  assert (
    own_models_report._mean({'a': (0.25, None), 'b': (0.5, 0.1)}, 0) == '0.375'
  )
  assert (
    own_models_report._mean({'a': (0.25, None), 'b': (0.5, 0.1)}, 1) == '0.100'
  )
  assert 'accuracy after training' in page
  assert '2 steps of training' in page
  assert 'after training |' not in own_models_report.table(found)


def test_sizes_that_are_added_are_in_the_command(tmp_path, monkeypatch):
  flags = own_models.flags.FLAGS
  if not flags.is_parsed():
    flags(['a program'])
  path = tmp_path / 'own_models.json'
  monkeypatch.setattr(own_models.records, 'commit', lambda: 'def5678')
  with flagsaver.flagsaver(run=['a folder'], steps=[7]):
    with flagsaver.flagsaver(ratio=[2.0, 4.0]):
      first = own_models._begun(path)
    path.write_text(json.dumps(first | {'git': 'abc1234', 'models': {'m': []}}))
    with flagsaver.flagsaver(ratio=[8.0, 4.0]):
      again = own_models._begun(path)
    with flagsaver.flagsaver(rate=0.5):
      other = own_models._begun(path)
  ratios = '--ratio=2 --ratio=4 --ratio=8 --steps=7 '
  assert again['models'] == {'m': []} and ratios in again['command']
  assert again['git'] == 'abc1234, def5678'
  assert not other['models']
