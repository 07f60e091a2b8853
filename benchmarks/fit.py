"""Errors, times and memory of `fit`.

  python -m benchmarks.fit --mnist=FOLDER --large

Three parts: `recovery` fits matrices that the parameterization itself has
generated, `trained` fits trained matrices at several sizes and compares some of
them with TensorLy, and `large` fits a matrix with a row for every word of
WikiText-103. Each part writes JSON and prints a table.
"""

import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import cases, comparison, matrices, records
from tt_compress import parameterizations
from tt_compress.parameterizations import base, composed

_OUTPUT = flags.DEFINE_string(
  'output', 'results/fit.json', 'JSON file to write.'
)
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Matrices of each recovery case.')
_MNIST = flags.DEFINE_string(
  'mnist', None, 'Folder with the idx files of MNIST.'
)
_LARGE = flags.DEFINE_bool(
  'large', False, 'Also fit a matrix 267,735 x 512, which takes 5 GB.'
)

_STD = 0.5
# Relative errors up to this one are rounding of float32 factors.
_EXACT = 1e-4


def recovery(
  examples: Sequence[tuple[str, tuple[int, int], Mapping]] = cases.RECOVERY,
  seeds: Sequence[int] = range(5),
) -> list[dict[str, Any]]:
  """Fits specs to random matrices of the same specs.

  Args:
    examples: name in the registry, (rows, cols), options.
    seeds: each gives one matrix of standard deviation 1/2.

  Returns:
    A record for each example with the relative errors and the seconds of all
    seeds. The first time may include compilation. `fit` may start several times
    and returns the best result.
  """
  results = []
  for name, (rows, cols), options in examples:
    spec = parameterizations.make(name, rows, cols, **options)
    full = jax.jit(spec.full)
    fits = []
    for seed in seeds:
      factors = spec.init(jax.random.key(seed), std=_STD)
      fits.append(_fit(spec, np.asarray(full(factors)), full))
    errors, seconds = zip(*fits, strict=True)
    results.append(
      {
        'entry': name,
        'rows': rows,
        'cols': cols,
        'options': dict(options),
        'num_params': spec.num_params,
        'padded': _is_padded(spec),
        'seeds': list(seeds),
        'errors': [records.rounded(error) for error in errors],
        'worst': records.rounded(max(errors)),
        'recovered': sum(error <= _EXACT for error in errors),
        'seconds': [records.rounded(value) for value in seconds],
      }
    )
  return results


def trained(
  matrix: np.ndarray,
  ratios: Sequence[float],
  entries: Sequence[tuple[str, Mapping]] = cases.ENTRIES,
) -> list[dict[str, Any]]:
  """Fits every parameterization to a matrix, at several sizes.

  Args:
    matrix: [rows, cols].
    ratios: compression ratios; each gives the largest rank that fits.
    entries: name in the registry, options.

  Returns:
    A record for each entry and ratio. It has 'reason' instead of 'error' where
    the parameterization cannot be so small, and for trains and Tucker factors
    the error of TensorLy.
  """
  results = []
  for name, options in entries:
    for ratio in ratios:
      record = {'entry': name, 'options': dict(options), 'asked_ratio': ratio}
      results.append(record)
      try:
        spec = parameterizations.make(
          name, *matrix.shape, compression_ratio=ratio, **options
        )
      except ValueError as reason:
        record['reason'] = str(reason)
        continue
      error, seconds = _fit(spec, matrix, jax.jit(spec.full))
      record |= {
        'rank': getattr(spec, spec.rank_option),
        'num_params': spec.num_params,
        'padded': _is_padded(spec),
        'error': round(error, 6),
        'seconds': records.rounded(seconds),
      }
      if name in comparison.METHODS and not record['padded']:
        record |= comparison.compare(name, spec, matrix, error)
  return results


def large(
  rows: int = 267_735,
  cols: int = 512,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Seconds and memory of the TT-SVD of a large matrix.

  Peaks are those of the whole process, so run this part first.
  """
  spec = parameterizations.make(
    'tensor_train', rows, cols, **(options or cases.LARGE)
  )
  matrix = matrices.random_spectrum(rows, cols)
  before, load = records.peak_bytes(), records.load()
  start = time.perf_counter()
  factors = jax.block_until_ready(spec.fit(matrix))
  seconds, peak = time.perf_counter() - start, records.peak_bytes()
  return {
    'matrix': 'random, singular values near u / k, u uniform in (1/2, 3/2)',
    'seed': 0,
    'rows': rows,
    'cols': cols,
    'row_modes': spec.row_modes,
    'col_modes': spec.col_modes,
    'tt_rank': spec.tt_rank,
    'num_params': spec.num_params,
    'seconds': round(seconds, 1),
    'error': round(_error_by_blocks(spec, factors, matrix), 6),
    'matrix_gb': round(matrix.nbytes / 1e9, 3),
    'peak_gb_before': round(before / 1e9, 3),
    'peak_gb': round(peak / 1e9, 3),
    'load_before': load,
    'load_after': records.load(),
  }


def _fit(spec, matrix, full):
  """The relative error of a fit and its seconds."""
  start = time.perf_counter()
  factors = jax.block_until_ready(spec.fit(matrix))
  seconds = time.perf_counter() - start
  return _relative_error(full(factors), matrix), seconds


def _relative_error(found, matrix):
  matrix = np.asarray(matrix, np.float64)
  difference = np.asarray(found, np.float64) - matrix
  return float(np.linalg.norm(difference) / np.linalg.norm(matrix))


def _error_by_blocks(spec, factors, matrix, size=2**13):
  take = jax.jit(spec.take)
  lost = total = 0.0
  for start in range(0, spec.rows, size):
    block = matrix[start : start + size]
    found = take(factors, np.arange(start, start + len(block)))
    lost += np.sum(np.square(found - block), dtype=np.float64)
    total += np.sum(np.square(block), dtype=np.float64)
  return math.sqrt(lost / total)


def _is_padded(spec: base.Parameterization) -> bool:
  """Whether the full matrix of the factors is larger than the matrix."""
  rows, cols = spec.rows, spec.cols
  if isinstance(spec, composed.Composed):
    return any(map(_is_padded, spec.components.values()))
  if hasattr(spec, 'row_modes'):
    rows, cols = math.prod(spec.row_modes), math.prod(spec.col_modes)
  elif hasattr(spec, 'row_split'):
    rows, cols = math.prod(spec.row_split), math.prod(spec.col_split)
  elif hasattr(spec, 'factor_shape'):
    rows, cols = (size**spec.order for size in spec.factor_shape)
  elif hasattr(spec, 'leaf_dim'):
    cols = spec.leaf_dim**spec.order
  return (rows, cols) != (spec.rows, spec.cols)


def _described(entry, options):
  listed = ', '.join(
    f'{key}={value["name"] if isinstance(value, Mapping) else value}'
    for key, value in options.items()
    if not key.endswith(('_modes', '_split'))
  )
  return f'{entry} ({listed})' if listed else entry


def recovery_table(results: Sequence[Mapping]) -> str:
  """The result of `recovery` as Markdown."""
  columns = ('entry', 'size', 'padded', 'recovered', 'errors', 'worst', 's')
  return records.table(
    columns,
    [
      (
        _described(r['entry'], r['options']),
        f'{r["rows"]} x {r["cols"]}',
        'yes' if r['padded'] else 'no',
        f'{r["recovered"]} of {len(r["seeds"])}',
        ' '.join(f'{error:.0e}' for error in r['errors']),
        r['worst'],
        float(np.median(r['seconds'])),
      )
      for r in results
    ],
  )


def trained_table(results: Sequence[Mapping]) -> str:
  """The result of `trained` as Markdown."""
  keys = ('num_params', 'error', 'seconds', 'tensorly_error', 'no_worse')
  return records.table(
    ('entry', 'ratio', *keys),
    [
      (
        _described(r['entry'], r['options']),
        r['asked_ratio'],
        *(r.get(key) for key in keys),
      )
      for r in results
    ],
  )


def _command():
  parts = ['python -m benchmarks.fit']
  if _SEEDS.value != _SEEDS.default:
    parts.append(f'--seeds={_SEEDS.value}')
  if _MNIST.value:
    parts.append('--mnist=FOLDER')
  return ' '.join([*parts, '--large'] if _LARGE.value else parts)


def _run_trained():
  found = {'embedding': matrices.bigram_embedding()}
  if _MNIST.value:
    found['mnist'] = matrices.mnist_weights(_MNIST.value)
  results = {}
  for name, (matrix, facts) in found.items():
    fits = trained(matrix, cases.RATIOS[name])
    print(f'\n## trained: {facts["what"]}, {matrix.shape}\n')
    print(trained_table(fits), flush=True)
    results[name] = {**facts, 'shape': matrix.shape, 'fits': fits}
  return results


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  results = {
    'command': _command(),
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'note': 'Errors are Frobenius norms relative to the norm of the matrix, '
    'with factors and products in float32. A matrix is recovered if the error '
    f'is at most {_EXACT:g}; no_worse allows {comparison.SLACK:g} of the error '
    'of TensorLy on top of it. Seconds are wall-clock time, may include '
    'compilation, and other programs may have used the cores (load_average).',
  }
  if _LARGE.value:
    results['large'] = large()
    print('\n## large\n')
    print(records.table(('fact', 'value'), list(results['large'].items())))
  results['recovery'] = recovery(seeds=range(_SEEDS.value))
  print('\n## recovery\n')
  print(recovery_table(results['recovery']), flush=True)
  results['trained'] = _run_trained()
  results['machine']['load_average_at_the_end'] = records.load()
  path = pathlib.Path(_OUTPUT.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  app.run(main)
