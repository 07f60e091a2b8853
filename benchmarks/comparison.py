"""Fits of trains and Tucker factors by TensorLy, to compare with ours."""

import time
from typing import Any

import numpy as np
import tensorly
from tensorly import decomposition

from benchmarks import records
from tt_compress.algebra.fit import host_arrays
from tt_compress.parameterizations import base

# Relative excess of our error that counts as equal: our factors are float32,
# those of TensorLy float64.
SLACK = 1e-6


def compare(
  name: str, spec: base.Parameterization, matrix: np.ndarray, error: float
) -> dict[str, Any]:
  """The error of TensorLy with the modes and ranks of a spec, in float64.

  Args:
    name: a key of METHODS.
    spec: of that parameterization, without padding.
    matrix: [rows, cols].
    error: relative error of our fit.
  """
  start = time.perf_counter()
  found, tensor = METHODS[name](spec, np.asarray(matrix, np.float64))
  seconds = time.perf_counter() - start
  theirs = np.linalg.norm(found - tensor) / np.linalg.norm(tensor)
  return {
    'tensorly_error': round(float(theirs), 6),
    'tensorly_seconds': records.rounded(seconds),
    'difference': records.rounded(float(error - theirs)),
    'no_worse': bool(error <= theirs * (1 + SLACK)),
  }


def _train(spec, matrix):
  """TT-SVD of the tensor with one axis of size I_k J_k per core."""
  sizes = zip(spec.row_modes, spec.col_modes, strict=True)
  tensor = host_arrays.interleave(matrix, spec.row_modes, spec.col_modes)
  tensor = tensor.reshape([m * n for m, n in sizes])
  cores = decomposition.tensor_train(tensorly.tensor(tensor), spec.tt_rank)
  return tensorly.tt_to_tensor(cores), tensor


def _tucker(spec, matrix):
  """HOOI that starts from HOSVD."""
  tensor = matrix.reshape(*spec.row_modes, *spec.col_modes)
  found = decomposition.tucker(
    tensorly.tensor(tensor),
    spec.tucker_rank,
    n_iter_max=100,
    tol=1e-8,
    random_state=0,
  )
  return tensorly.tucker_to_tensor(found), tensor


METHODS = {'tensor_train': _train, 'tucker': _tucker}
