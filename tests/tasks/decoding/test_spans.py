"""The likeliest spans, against all spans."""

import itertools

import jax
import numpy as np
import pytest

from tt_compress.tasks.decoding import spans


@pytest.mark.parametrize('max_length, number', [(1, 3), (3, 5), (9, 27)])
def test_spans_are_the_best_of_all(max_length, number):
  starts, ends = np.random.default_rng(0).normal(size=(2, 4, 7))
  found = jax.jit(
    lambda *each: spans.best(*each, max_length=max_length, number=number)
  )(starts.astype(np.float32), ends.astype(np.float32))
  for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
    every = sorted(
      (
        (i, j)
        for i, j in itertools.product(range(7), repeat=2)
        if i <= j < i + max_length
      ),
      key=lambda span: -start[span[0]] - end[span[1]],
    )
    first, last, scores = (each[row][: len(every)] for each in found)
    assert list(zip(first, last, strict=True)) == every[:number]
    wanted = [start[i] + end[j] for i, j in every[:number]]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert not np.any(np.isfinite(found[2][row][len(every) :]))


def test_equal_spans_are_in_the_order_of_the_text():
  zeros = np.zeros((1, 3), np.float32)
  first, last, _ = spans.best(zeros, zeros, max_length=2, number=5)
  assert first.tolist() == [[0, 0, 1, 1, 2]]
  assert last.tolist() == [[0, 1, 1, 2, 2]]
