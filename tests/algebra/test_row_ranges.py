"""Scores by a range of rows, and their gradients, against whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import row_ranges

PARTS, ROWS, COLS, TOKENS = 2, 7, 3, 4


def arrays(parts):
  random = np.random.default_rng(0)
  shapes = (parts, ROWS, COLS), (TOKENS, COLS)
  return [jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes]


@pytest.mark.parametrize('room', [1, 4 * COLS, 2**20])
@pytest.mark.parametrize(
  'parts, first, size', [(1, 0, 7), (1, 2, 4), (2, 3, 8), (2, 0, 14)]
)
def test_a_range_is_that_of_the_whole_matrix(
  monkeypatch, room, parts, first, size
):
  monkeypatch.setattr(row_ranges, '_ROOM', {'cpu': room})
  matrix, x = arrays(parts)
  rows = row_ranges.Range(matrix.shape, first, size)
  counts = rows.ids >= 0
  # Every row once.
  np.testing.assert_array_equal(np.sort(rows.ids[counts]), np.arange(size))
  whole = np.asarray(matrix).reshape(-1, COLS)[first : first + size]
  scores = rows.scores(matrix, x)
  for token in range(TOKENS):
    found = np.asarray(scores)[:, token, None][counts]
    expected = (whole @ np.asarray(x[token]))[rows.ids[counts]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  of_scores = jnp.where(counts, jnp.cos(scores), 0)
  total = jnp.ones_like(matrix)
  of_matrix, of_x = rows.add_gradients(total, matrix, x, of_scores)
  _, pull = jax.vjp(rows.scores, matrix, x)
  expected, expected_x = pull(of_scores)
  np.testing.assert_allclose(of_matrix, 1 + expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(of_x, expected_x, rtol=1e-5, atol=1e-6)
