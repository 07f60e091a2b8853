"""The decision table: measured size, error and speed of each method."""

import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from docs import markdown
from tt_compress import parameterizations

# Methods by series of trained models.
_SERIES = {
  'dense': 'dense',
  'low rank': 'low_rank',
  'train of 2 cores': 'tensor_train',
  'block train': 'block_tensor_train',
}
# Methods by family of `benchmarks.families`.
_FAMILIES = {
  'low rank': 'low_rank',
  'train of 2 cores': 'tensor_train',
  'train of 3 cores': 'tensor_train',
  'nonlinear train': 'nonlinear_train',
  'ring of 3 cores': 'tensor_ring',
  'block train': 'block_tensor_train',
  'Monarch': 'monarch',
  'Tucker, 2 + 2 modes': 'tucker',
  'Kronecker': 'kronecker',
  'word2ket, order 2': 'word2ket',
  'word2ket, order 3': 'word2ket',
  'word2ketXS, order 2': 'word2ketxs',
  'word2ketXS, order 3': 'word2ketxs',
  'PHM': 'phm',
  'pruned': 'pruned',
  'quantized': 'quantized',
}
_RATIO, _KEPT_RATIO = 8, 4
_TIMES = ('bench_layers.json', 'bench_block_trains.json')
Column = Mapping[str, str]


def write(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes `decision.md`, which the page about choosing includes."""
  read = lambda name: json.loads((root / 'results' / name).read_text())
  times = [each for name in _TIMES for each in read(name)['records']]
  neighbors = read('neighbors.json')
  columns = {
    f'error of a fit, {_RATIO}x': _errors(read('fit.json')),
    f'neighbors of words kept, {_KEPT_RATIO}x': _kept(
      neighbors['words'], lambda each: each['overlap']
    ),
    f'neighbors of sentences kept, {_KEPT_RATIO}x': _kept(
      [each for each in neighbors['sentences'] if each['fit'] == 'weights'],
      lambda each: each['texts']['Multi30k']['overlap'],
    ),
    'trained: validation loss (parameters)': _losses(
      read('training_well-multi30k.json')
    ),
    'time of a layer, relative to dense': _times(times, 'apply'),
    'time of a lookup, relative to dense': _times(times, 'take'),
  }
  lines = [
    (
      f'[`{name}`](generated/methods/{name}.md)',
      *(column.get(name, '') for column in columns.values()),
    )
    for name in parameterizations.REGISTRY
    if any(name in column for column in columns.values())
  ]
  table = markdown.table(('method', *columns), lines)
  markdown.write(folder / 'decision.md', table)


def _errors(record: Mapping[str, Any]) -> Column:
  """The least error of the fits of one size to a trained matrix."""
  errors = {}
  for fit in record['trained']['mnist']['fits']:
    if fit['asked_ratio'] == _RATIO and 'error' in fit:
      errors.setdefault(fit['entry'], []).append(fit['error'])
  return {name: f'{min(found):.2f}' for name, found in errors.items()}


def _kept(
  found: Iterable[Mapping[str, Any]],
  overlap: Callable[[Mapping[str, Any]], float],
) -> Column:
  """The largest part of the nearest neighbors that a fit of one size keeps."""
  parts = {}
  for each in found:
    name = _FAMILIES.get(each['family'])
    if each['ratio'] == _KEPT_RATIO and name and 'reason' not in each:
      parts.setdefault(name, []).append(overlap(each))
  return {name: f'{max(values):.0%}' for name, values in parts.items()}


def _losses(record: Mapping[str, Any]) -> Column:
  """The best validation loss of a series, with its number of parameters."""
  best = {}
  for found in record['rows']:
    runs = [run['values'] for run in found['runs']]
    if runs:
      point = _mean(runs, 'validation loss'), _mean(runs, 'parameters')
      name = _SERIES[found['row']['series'].split(',')[0]]
      best[name] = min(point, best.get(name, point))
  return {
    name: f'{loss:.2f} ({params / 1e6:.1f}M)'
    for name, (loss, params) in best.items()
  }


def _mean(runs: Sequence[Mapping[str, float]], name: str) -> float:
  return sum(run[name] for run in runs) / len(runs)


def _times(found: Iterable[Mapping[str, Any]], product: str) -> Column:
  """The range of the times with gradients."""
  ratios = {}
  for each in found:
    match = re.match(rf'{product} (\w+)\(', each['case'])
    if match and each['kind'] == 'gradient':
      ratios.setdefault(match[1], []).append(each['ratio'])
  return {name: _range(values) for name, values in ratios.items()}


def _range(values: Sequence[float]) -> str:
  ends = dict.fromkeys(f'{end(values):.2f}' for end in (min, max))
  return ' to '.join(ends)
