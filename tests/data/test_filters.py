import numpy as np
import pytest

from tt_compress.data import filters

NAMES = (
  'min_length',
  'max_length',
  'max_difference',
  'max_ratio',
  'max_target_length',
)


def slow_reason(
  s, t, min_length, max_length, max_difference, max_ratio, max_target_length
):
  if min_length is not None and (s < min_length or t < min_length):
    return 'too short'
  if max_length is not None and (s > max_length or t > max_length):
    return 'too long'
  if max_target_length is not None and t > max_target_length:
    return 'long target'
  if max_difference is not None and abs(s - t) > max_difference:
    return 'difference'
  if max_ratio is not None and max(s, t) > max_ratio * min(s, t):
    return 'ratio'
  return None


@pytest.mark.parametrize(
  'bounds',
  [
    (3, 128, 25, 2.5, None),
    (None, 60, 10, None, 40),
    (1, None, None, 1.5, 100),
  ],
)
def test_keep_equals_a_plain_loop(bounds):
  rng = np.random.default_rng(0)
  lengths = rng.integers(0, 140, (600, 2))
  lengths[:300] //= 12
  sides = [[np.ones(n, np.int32) for n in column] for column in lengths.T]
  options = dict(zip(NAMES, bounds, strict=True))
  indices, counts = filters.keep(*sides, **options)
  reasons = [slow_reason(s, t, *bounds) for s, t in lengths]
  kept = [i for i, reason in enumerate(reasons) if reason is None]
  np.testing.assert_array_equal(indices, kept)
  for reason, count in counts.items():
    assert count == reasons.count(reason)
  assert len(kept) + sum(counts.values()) == len(lengths)


def test_defaults_sit_on_the_bounds_of_the_table():
  pairs = [(3, 3), (2, 3), (128, 128), (129, 128), (40, 65), (40, 66), (4, 10)]
  pairs += [(4, 11)]
  sides = [[[7] * n for n in column] for column in zip(*pairs, strict=True)]
  indices, counts = filters.keep(*sides)
  np.testing.assert_array_equal(indices, [0, 2, 4, 6])
  assert filters.report(counts, len(pairs)) == (
    'left out 4 of 8 pairs by length '
    '(1 too short, 1 too long, 1 difference, 1 ratio)'
  )


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match='1 source and 2 target'):
    filters.keep([[1]], [[1], [1]])
  with pytest.raises(ValueError, match='no pair is left.*2 too short'):
    filters.keep([[1], [1]], [[1], [1]])
  assert filters.report({'ratio': 0}, 5) == 'left out 0 of 5 pairs by length'
