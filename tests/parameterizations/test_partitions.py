"""What specs split over devices: the named axes follow rows or columns."""

import re

import jax
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress import parameterizations

ROWS, COLS = 16, 36
TRAIN = dict(name='tensor_train', tt_rank=2, row_modes=(4, 2, 2))
SPECS = {
  'dense': dict(name='dense'),
  'low_rank': dict(name='low_rank', rank=3),
  'low_rank with a middle': dict(name='low_rank', rank=3, middle=True),
  'tensor_train': dict(TRAIN, col_modes=(4, 3, 3)),
  'tensor_train of another order': dict(
    name='tensor_train',
    tt_rank=2,
    row_modes=(2, 2, 4),
    col_modes=(4, 3, 3),
    index_order='column_major',
  ),
  **{
    f'nonlinear_train with {between}': dict(
      TRAIN, name='nonlinear_train', col_modes=(4, 3, 3), between=between
    )
    for between in ('gated', 'relu', 'max')
  },
  'tensor_ring': dict(
    name='tensor_ring', tr_rank=2, row_modes=(4, 2, 2), col_modes=(4, 3, 3)
  ),
  'block_tensor_train': dict(name='block_tensor_train', tt_rank=3),
  'monarch': dict(name='monarch', num_blocks=(4, 6)),
  'butterfly': dict(name='butterfly'),
  'tucker': dict(
    name='tucker', tucker_rank=2, row_modes=(4, 2, 2), col_modes=(4, 3, 3)
  ),
  'kronecker': dict(
    name='kronecker', rank=2, row_split=(4, 4), col_split=(4, 9)
  ),
  'word2ketxs': dict(name='word2ketxs', order=2, rank=2),
  'word2ketxs with norms': dict(
    name='word2ketxs', order=2, rank=2, norm='affine'
  ),
  'word2ket': dict(name='word2ket', order=2, rank=2, norm='affine'),
  'phm': dict(name='phm', n=4),
  'released phm': dict(name='phm', n=4, formula='released'),
  'pruned': dict(
    name='pruned', sparsity=0.5, end=1, base=dict(name='low_rank', rank=3)
  ),
  'quantized': dict(name='quantized', bits=8, base=dict(name='dense')),
  'variational_dropout of every example': dict(
    name='variational_dropout', every=1, base=dict(name='dense')
  ),
  'variational_dropout': dict(
    name='variational_dropout',
    every=1,
    base=dict(name='quantized', bits=8, base=dict(TRAIN, col_modes=(4, 3, 3))),
  ),
  'normalized': dict(name='normalized', base=dict(name='low_rank', rank=3)),
  'sum': dict(
    name='sum',
    parts=(
      dict(name='frozen', base=dict(TRAIN, col_modes=(4, 3, 3))),
      dict(name='low_rank', rank=3),
    ),
  ),
}
# A row of word2ket has leaves of its own, columns have none. A butterfly is
# small, and only the part of the matrix that is there has its digits.
REPLICATED = {
  ('word2ket', 'cols'),
  ('butterfly', 'rows'),
  ('butterfly', 'cols'),
}


def test_every_parameterization_is_here():
  names = re.findall(r"'name': '(\w+)'", str(SPECS))
  assert set(names) == set(parameterizations.REGISTRY)


def changed(factors, axes, function):
  """Factors with function(array, axis) in place of those that are split."""
  rest = dict(axes)

  def change(path, array):
    name = '/'.join(str(entry.key) for entry in path)
    return function(array, rest.pop(name)) if name in rest else array

  found = jax.tree_util.tree_map_with_path(change, factors)
  assert not rest  # what is named is there
  return found


@pytest.mark.parametrize('name', SPECS)
def test_halves_of_the_factors_are_halves_of_the_matrix(key, name):
  spec = parameterizations.make(rows=ROWS, cols=COLS, **SPECS[name])
  factors = contract.initialize(spec)(key)
  if 'mask' in factors:
    factors = spec.project(factors, 1)  # not all true
  full = contract.full(spec)
  swap = lambda array, axis: np.roll(array, array.shape[axis] // 2, axis)
  for axis, side in enumerate(('rows', 'cols')):
    axes = spec.partitions(side)
    assert bool(axes) != ((name, side) in REPLICATED)
    expected = swap(np.asarray(full(factors)), axis) if axes else full(factors)
    found = full(changed(factors, axes, swap))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
