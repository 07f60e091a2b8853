"""Benchmarks of `fit` with tiny matrices."""

import gzip
import json
import math

import numpy as np
import pytest

from benchmarks import cases, comparison, fit, matrices, records
from tt_compress import parameterizations


def test_recovery_reports_errors_and_sizes():
  options = dict(row_modes=(2, 3), col_modes=(2, 2), tt_rank=2)
  examples = [
    ('tensor_train', (6, 4), options),
    ('word2ket', (6, 3), dict(order=2, rank=1)),
  ]
  found, normed = fit.recovery(examples, seeds=(0, 1))
  assert (found['rows'], found['cols'], found['padded']) == (6, 4, False)
  assert found['num_params'] == 2 * 2 * 2 + 2 * 3 * 2
  assert found['seeds'] == [0, 1] and len(found['seconds']) == 2
  assert found['recovered'] == 2 and found['worst'] < 1e-5
  # Entries that a row does not keep are free: no decomposition any more.
  assert normed['padded'] and normed['worst'] == max(normed['errors'])
  table = fit.recovery_table([found, normed]).splitlines()
  assert len(table) == 4 and '2 of 2' in table[2]
  json.dumps([found, normed])


def test_every_entry_is_recovered():
  names = {name for name, _, _ in cases.RECOVERY}
  # Nothing of a frozen matrix alone is trained.
  assert names == set(parameterizations.REGISTRY) - {'frozen'}


def test_trained_gives_a_reason_for_impossible_sizes():
  matrix = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
  entries = [('low_rank', {}), ('tensor_train', dict(num_modes=2))]
  large, small, *trains = fit.trained(matrix, (2, 8), entries)
  values = np.linalg.svd(matrix, compute_uv=False)
  assert large['rank'] == 2
  error = math.sqrt(np.sum(values[2:] ** 2) / np.sum(values**2))
  assert large['error'] == pytest.approx(error, abs=1e-5)
  assert 'more than the 8 allowed' in small['reason']
  assert 'error' not in small
  assert trains[0]['no_worse'] and trains[0]['tensorly_error'] > 0
  assert len(fit.trained_table([large, small]).splitlines()) == 4


@pytest.mark.parametrize('name', comparison.METHODS)
def test_a_worse_error_is_reported(name):
  option = parameterizations.REGISTRY[name].rank_option
  spec = parameterizations.make(name, 8, 8, num_modes=2, **{option: 1})
  matrix = np.outer(np.arange(8) % 2 + 1, np.arange(8) // 4 + 1)
  found = comparison.compare(name, spec, matrix, 0.5)
  # The digits of rows and columns are independent: rank 1 is exact.
  assert found['tensorly_error'] == pytest.approx(0, abs=1e-6)
  assert not found['no_worse'] and found['difference'] == 0.5


def test_large_reports_peaks_of_memory():
  options = dict(tt_rank=4, row_modes=(3, 4, 5), col_modes=(2, 2, 2))
  found = fit.large(60, 8, options)
  assert found['row_modes'] == (3, 4, 5) and 0 < found['error'] < 1
  assert 0 < found['peak_gb_before'] <= found['peak_gb']


def test_a_random_spectrum():
  matrix = matrices.random_spectrum(2000, 8)
  values = np.linalg.svd(matrix, compute_uv=False) * np.arange(1, 9)
  assert 0.4 < values.min() and values.max() < 1.7


@pytest.mark.parametrize('zipped', [False, True])
def test_idx_files(tmp_path, zipped):
  images = bytes(range(1, 9))
  files = {
    't10k-images-idx3-ubyte': b'\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\2' + images,
    't10k-labels-idx1-ubyte': b'\0\0\x08\x01\0\0\0\2' + b'\x07\x03',
  }
  for name, data in files.items():
    path = tmp_path / (f'{name}.gz' if zipped else name)
    path.write_bytes(gzip.compress(data) if zipped else data)
  found, labels = matrices.read_mnist(tmp_path, 't10k')
  np.testing.assert_allclose(found * 255, np.reshape(list(images), (2, 4)))
  np.testing.assert_array_equal(labels, [7, 3])
  with pytest.raises(ValueError, match='train-images-idx3-ubyte is missing'):
    matrices.read_mnist(tmp_path, 'train')


def test_a_table_has_a_dash_for_missing_values():
  rows = [(1000, None), (0.12345, True)]
  assert records.table(('a', 'b'), rows).splitlines() == [
    '| a | b |',
    '| --- | --- |',
    '| 1,000 | - |',
    '| 0.123 | True |',
  ]
