"""The program that compares neighbors after fits, on tiny matrices."""

import json
import pathlib

import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from benchmarks import (
  families,
  kept,
  neighbor_sentences,
  neighbor_words,
  neighbors,
)
from tt_compress import pretrained

_BERT = pathlib.Path(__file__).parent / 'pretrained' / 'golden' / 'bert'


def family(name):
  return next(each for each in families.FAMILIES if each.name == name)


def test_overlap_and_ranks_by_hand():
  found, expected = np.array([[3, 1], [2, 0]]), np.array([[1, 2], [0, 2]])
  assert kept.overlap(found, expected) == (0.5 + 1) / 2
  a = np.array([1.0, 2.0, 3.0])
  assert kept.rank_correlation(a, a**3) == pytest.approx(1)
  assert kept.rank_correlation(a, np.ones(3)) == 0
  vectors = np.array([[1.0, 0], [2, 0.1], [0, 1], [-1, 0]])
  assert kept.nearest(vectors, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_the_page_and_the_figure_show_what_was_measured(tmp_path):
  texts = {'Multi30k': dict(overlap=0.5, correlation=0.25)}
  kept_texts = dict(ratio=2.0, times_smaller=2.5, texts=texts)
  results = {
    'command': 'a command',
    'git': 'a commit',
    'machine': {'processor': 'a processor'},
    'num_words': 40,
    'num_sentences': 13,
    'words': [
      dict(ratio=2.0, family='PHM', reason='no such size'),
      dict(
        ratio=4.0,
        family='PHM',
        times_smaller=4.01,
        overlap=0.125,
        correlation=0.5,
        error=0.75,
      ),
    ],
    'sentences': [
      dict(fit='weights', family='low rank', **kept_texts),
      dict(fit='products', family='planned', **kept_texts),
    ],
  }
  page = neighbors.page(results)
  assert '| PHM | - | 0.125 / 0.500 / 0.750 |' in page
  assert '| low rank | 0.500, 0.250 (2.5x) |' in page
  assert page.count('| planned |') == 1
  pytest.importorskip('matplotlib')
  neighbors.draw(results, tmp_path / 'neighbors.png')
  assert (tmp_path / 'neighbors.png').stat().st_size > 1000


def test_rows_of_other_numbers_are_refused(tmp_path):
  flags = neighbors.flags.FLAGS
  if not flags.is_parsed():
    flags(['a program'])
  path = tmp_path / 'neighbors.json'
  assert neighbors._begun(path) == {'words': [], 'sentences': []}
  begun = dict(words=[{'ratio': 2.0}], num_words=7, sentences=[])
  path.write_text(json.dumps(begun))
  with pytest.raises(app.UsageError, match='7 words, --kept_words is 50000'):
    neighbors._begun(path)
  with flagsaver.flagsaver(kept_words=7):
    assert neighbors._begun(path) == begun


def test_words_keep_what_the_fitted_matrix_says():
  matrix = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
  words = neighbor_words.Words(matrix, queries=15, pairs=30)
  chosen = [family(name) for name in ('low rank', 'pruned', 'quantized')]
  found = list(neighbor_words.measure(words, [2.0, 4.0], chosen, {}))
  by = {(each['family'], each['ratio']): each for each in found}
  assert by['quantized', 2.0]['reason'] == '16 bits are more than 8'
  left, values, right = np.linalg.svd(matrix, full_matrices=False)
  rank = int(matrix.size / 4 // sum(matrix.shape))
  near = left[:, :rank] * values[:rank] @ right[:rank]
  random = np.random.default_rng(0)
  queries = random.choice(40, 15, replace=False)
  parts = [
    len({*ours} & {*theirs}) / 10
    for ours, theirs in zip(
      kept.nearest(near, 10)[queries].tolist(),
      kept.nearest(matrix, 10)[queries].tolist(),
      strict=True,
    )
  ]
  low_rank = by['low rank', 4.0]
  assert low_rank['overlap'] == pytest.approx(np.mean(parts), abs=1e-4)
  error = np.linalg.norm(matrix - near) / np.linalg.norm(matrix)
  assert low_rank['error'] == pytest.approx(error, abs=1e-4)
  assert by['pruned', 4.0]['times_smaller'] == pytest.approx(4, rel=0.02)
  assert by['quantized', 4.0]['overlap'] > by['low rank', 2.0]['overlap']
  # Records of an earlier run are kept as they are.
  again = neighbor_words.measure(
    words, [2.0], chosen[:1], {(2.0, 'low rank'): {'kept': 1}}
  )
  assert list(again) == [{'kept': 1}]


@pytest.fixture(scope='module')
def sentences():
  found = pretrained.load(str(_BERT))
  random = np.random.default_rng(0)
  size = found.config['vocab_size']
  draw = lambda length: random.integers(2, size, length).tolist()
  texts = {'Multi30k': [draw(length) for length in range(3, 16)]}
  sentences = neighbor_sentences.Sentences(
    found, texts, [draw(6) for _ in range(8)] + [draw(5)]
  )
  return texts['Multi30k'], sentences


def test_sentences_are_means_of_features(sentences):
  text, sentences = sentences
  model = sentences.make()
  for ids, vector in zip(text, sentences.expected['Multi30k'], strict=True):
    mean = np.asarray(model(np.array([ids]))[0]).mean(0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-5)


@pytest.mark.full
def test_all_ways_of_one_size_are_compared(sentences):
  chosen = [family('low rank'), family('pruned'), family('nonlinear train')]
  measured = list(neighbor_sentences.measure(sentences[1], [2.0], chosen, {}))
  names = [(each['fit'], each['family']) for each in measured]
  assert names == [
    ('weights', 'low rank'),
    ('weights', 'pruned'),
    ('products', 'low rank'),
    ('products', 'planned'),
  ]
  for each in measured:
    assert 1.9 < each['times_smaller'] < 3.5
    assert 0 <= each['texts']['Multi30k']['overlap'] <= 1
