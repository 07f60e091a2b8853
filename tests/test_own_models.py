"""The program that makes trained models smaller, on a tiny run."""

from benchmarks import own_models
from tests.training import test_origin

trained = test_origin.trained


def test_ways_of_one_size_are_compared(trained):
  model = own_models.Model(trained.workdir, beam_size=1)
  dense, *found = own_models.rows(model, [2.0])
  assert dense['params'] == trained.results()['num_params']
  assert dense['accuracy'] == trained.results()['test']['accuracy']
  ways = {(each['ranks'], each['fit']) for each in found}
  assert len(ways) == len(found) == 6
  for each in found:
    assert 0.3 * dense['params'] < each['params'] <= dense['params'] / 2
    assert each['validation_loss'] > 0
  by = {(each['ranks'], each['fit']): each['errors'] for each in found}
  weights, products = (
    by['low rank', fit]['layers/0'] for fit in ('weights', 'products')
  )
  assert weights[0] < products[0] and weights[1] is None
  page = own_models.page(
    {
      'command': 'a command',
      'git': 'a commit',
      'machine': {'processor': 'a processor'},
      'models': {'mnist': [dense, *found]},
    }
  )
  assert page.count('planned') == 2 and '| accuracy |' in page
