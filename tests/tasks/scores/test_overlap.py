"""Exact match and F1, against numbers of the official script of SQuAD 1.1."""

import pytest

from tt_compress.tasks.scores import overlap

# Found, right answers, exact match and F1 that the official script prints.
CASES = [
  (
    'Denver Broncos',
    ('Denver Broncos', 'Denver Broncos', 'Denver Broncos'),
    1.0,
    1.0,
  ),
  ('the Denver Broncos!', ('denver   broncos',), 1.0, 1.0),
  (
    'Santa Clara',
    (
      'Santa Clara, California',
      "Levi's Stadium",
      "Levi's Stadium in the Bay Area at Santa Clara, California.",
    ),
    0.0,
    0.8,
  ),
  (
    "Levi's Stadium in Santa Clara",
    ('Santa Clara, California', "Levi's Stadium"),
    0.0,
    0.5714285714285715,
  ),
  ('24-10', ('2410',), 1.0, 1.0),
  ('24–10', ('24-10',), 0.0, 0.0),
  ('the', ('a',), 1.0, 0.0),
  ('the', ('the Panthers',), 0.0, 0.0),
  ('', ('The.',), 1.0, 0.0),
  ('', ('gold',), 0.0, 0.0),
  ('gold gold', ('gold',), 0.0, 0.6666666666666666),
  ('gold', ('gold gold silver',), 0.0, 0.5),
  ('A. a b', ('b a',), 1.0, 1.0),
  ('theatre', ('the atre',), 0.0, 0.0),
  ('an-a', ('ana',), 1.0, 1.0),
  ('café', ('cafe', 'CafÉ'), 1.0, 1.0),
  ('February 7, 2016', ('February 7', '7 February 2016'), 0.0, 1.0),
  ('x\xa0y', ('x y',), 1.0, 1.0),
]


@pytest.mark.parametrize('found, answers, exact_match, f1', CASES)
def test_scores_are_those_of_the_official_script(
  found, answers, exact_match, f1
):
  scores = [
    overlap.best(score, found, answers)
    for score in (overlap.exact_match, overlap.f1)
  ]
  assert scores == pytest.approx([exact_match, f1], abs=1e-12)
