"""Shares of the dense parameters in place of ranks, as tensorly means them."""

import functools

import numpy as np
import pytest
from tensorly import tt_tensor
from tensorly.cp_tensor import validate_cp_rank as cp_rank
from tensorly.tr_tensor import validate_tr_rank as tr_rank

from tt_compress import parameterizations

SHARES = (0.05, 0.1, 0.29, 0.5, 'same')
MODES = dict(row_modes=(8, 10, 12), col_modes=(4, 6, 5))
tt_rank = functools.partial(tt_tensor.validate_tt_rank, constant_rank=True)


@pytest.mark.parametrize(
  'name, size, options, shape, reference, largest',
  [
    # An axis of their tensor is a pair of modes; no mode is padded.
    ('tensor_train', (960, 120), MODES, (32, 60, 60), tt_rank, 60),
    ('tensor_ring', (960, 120), MODES, (32, 60, 60), tr_rank, 99),
    ('word2ketxs', (1000, 125), dict(order=3), (50, 50, 50), cp_rank, 2500),
    ('low_rank', (960, 120), {}, (960, 120), cp_rank, 120),
  ],
)
def test_shares_are_those_of_tensorly_rounded_down(
  name, size, options, shape, reference, largest
):
  for share in SHARES:
    spec = parameterizations.make(name, *size, rank=share, **options)
    expected = np.max(reference(shape, share, rounding='floor'))
    found = np.max(getattr(spec, spec.rank_option))
    assert found == min(expected, largest)
    part = 1 if share == 'same' else share
    assert spec.num_params <= part * spec.rows * spec.cols


def sized(name, **options):
  given = dict(order=2) if name.startswith('word2ket') else {}
  given = dict(between='max') if name == 'nonlinear_train' else given
  return parameterizations.make(name, 1000, 384, **given, **options)


@pytest.mark.parametrize(
  'name', [n for n, c in parameterizations.REGISTRY.items() if c.rank_option]
)
def test_a_share_is_the_inverse_of_a_compression_ratio(name):
  option = parameterizations.REGISTRY[name].rank_option
  spec = sized(name, compression_ratio=4)
  assert sized(name, rank=0.25) == spec == sized(name, **{option: 0.25})
  assert sized(name, rank='same') == sized(name, max_params=384_000)
  with pytest.raises(ValueError, match='more than the 3 allowed'):
    sized(name, rank=1e-5)


def test_rank_is_a_name_of_every_rank():
  for name, option in (('tensor_train', 'tt_rank'), ('tucker', 'tucker_rank')):
    assert sized(name, rank=3) == sized(name, **{option: 3})
  assert sized('tensor_train', rank=(2, 3)).tt_rank == (1, 2, 3, 1)


def test_a_share_is_taken_as_it_is_written():
  assert int(0.29 * 100) == 28
  # 29 numbers at rank 1.
  assert parameterizations.make('low_rank', 4, 25, rank=0.29).num_params == 29


def test_wrappers_take_shares_for_their_bases():
  base = dict(name='low_rank', rank=0.1)
  spec = parameterizations.make('quantized', 1000, 384, bits=4, base=base)
  assert spec.base == sized('low_rank', compression_ratio=10)


@pytest.mark.parametrize(
  'name, options, message',
  [
    (
      'tucker',
      dict(rank=0.0),
      'tucker_rank=0.0 is a share of the 384,000 dens',
    ),
    ('tucker', dict(rank=-0.1), '=-0.1 is .* above 0 and at most 1$'),
    ('tucker', dict(rank=1.5), '=1.5 is .* above 0 and at most 1$'),
    ('tucker', dict(rank=8.0), 'at most 1; rank 8 is tucker_rank=8$'),
    ('tucker', dict(rank=float('nan')), '=nan is a share'),
    ('tucker', dict(rank=float('inf')), '=inf is a share'),
    (
      'tucker',
      dict(rank='full'),
      "'full' is no rank; .* such as 0.1, or 'same'",
    ),
    ('tucker', dict(rank=True), 'tucker_rank=True is bool, expected int'),
    (
      'tucker',
      dict(rank=0.1, tucker_rank=2),
      'rank and tucker_rank are two na',
    ),
    ('tucker', dict(rank=0.1, max_params=9), 'only one of max_params and tuck'),
    ('phm', dict(rank=4), 'phm has n in place of a rank; give n, or a share'),
    ('phm', dict(n=0.25, compression_ratio=4), 'only one of'),
    ('dense', dict(rank=0.1), "dense has no option 'rank'"),
    ('butterfly', dict(rank='same'), "butterfly has no option 'rank'"),
  ],
)
def test_bad_shares(name, options, message):
  with pytest.raises(ValueError, match=message):
    sized(name, **options)
