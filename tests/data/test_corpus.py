"""Pairs of sentences: what they refuse, and when two corpora are the same."""

import hashlib

import pytest

from tt_compress.data import corpus


def test_the_digest_is_of_every_sentence_in_its_place():
  one = corpus.of_sides(('a', 'c'), ('b', 'd'), 'one')
  # The digest is stored with runs, which resume on the same data only.
  assert one.digest == hashlib.sha256(b'a\nb\nc\nd\n').hexdigest()
  others = [
    corpus.of_sides(('a',), ('b',), 'fewer'),
    corpus.of_sides(('a', 'd'), ('b', 'c'), 'sides swapped'),
    corpus.of_sides(('c', 'a'), ('d', 'b'), 'another order'),
    corpus.of_sides(('a\nb',), ('c\nd',), 'line feeds inside'),
    corpus.of_sides(('a\nb\nc',), ('d',), 'line feeds inside one'),
  ]
  digests = {found.digest for found in (one, *others)}
  assert len(digests) == 1 + len(others)
  assert corpus.of_sides(['a', 'c'], ['b', 'd'], 'name').digest == one.digest


def test_sides_that_are_not_aligned():
  with pytest.raises(ValueError, match='two: 2 source and 1 target'):
    corpus.of_sides(('a', 'b'), ('c',), 'two')
  with pytest.raises(ValueError, match='none: no sentences'):
    corpus.of_sides((), (), 'none')
