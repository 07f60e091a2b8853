"""Neighbors that are kept when pretrained embeddings and encoders are fitted.

  python -m benchmarks.neighbors

Fits the embedding of GloVe and all matrices of MiniLM, an encoder of sentences,
by every parameterization at several sizes, without training, and compares the
nearest words and sentences with those of the original vectors. Needs the files
of `launch/resources.sh minilm glove`. Writes JSON, a page of Markdown and a
figure, and continues where an earlier run has stopped.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags

from benchmarks import (
  families,
  neighbor_sentences,
  neighbor_words,
  records,
)
from tt_compress.parallel import compile_cache
from tt_compress.studies.report import palette, plots
from tt_compress.training import records as run_records

_FOLDER = flags.DEFINE_string(
  'pretrained',
  None,
  'Folder of the pretrained files; $TT_COMPRESS_DATA/pretrained by default.',
)
_RATIOS = flags.DEFINE_multi_float(
  'kept_ratio',
  [2.0, 4.0, 8.0],
  'Size of the original file relative to new ones.',
)
_WORDS = flags.DEFINE_integer(
  'kept_words', 50_000, 'Rows of GloVe, those of the most frequent words.'
)
_SENTENCES = flags.DEFINE_integer('kept_sentences', 300, 'Of each text.')
_PARTS = flags.DEFINE_multi_enum(
  'kept_part',
  ['words', 'sentences'],
  ['words', 'sentences'],
  'What to measure.',
)
_FAMILIES = flags.DEFINE_string(
  'kept_families', '.*', 'Pattern of their names.'
)
_OUTPUT = flags.DEFINE_string(
  'neighbors',
  'results/neighbors.json',
  'JSON file; the page and the figure lie beside it.',
)
_NEW = dict(words=('ratio', 'family'), sentences=('fit', 'ratio', 'family'))


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  compile_cache.use()
  path = pathlib.Path(_OUTPUT.value)
  results = _begun(path) | {
    'command': 'python -m benchmarks.neighbors',
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'num_words': _WORDS.value,
    'num_sentences': _SENTENCES.value,
  }
  for part in _PARTS.value:
    _measure(part, results, path)
  run_records.write_text(path.with_suffix('.md'), page(results))
  draw(results, path.with_suffix('.png'))
  print(page(results))


def _begun(path):
  """The results so far, which must be of as many words and sentences."""
  begun = {'words': [], 'sentences': []}
  if path.exists():
    begun |= json.loads(path.read_text())
  for part, flag in (('words', _WORDS), ('sentences', _SENTENCES)):
    number = begun.get(f'num_{part}', flag.value)
    if begun[part] and number != flag.value:
      raise app.UsageError(
        f'{path} has rows of {number} {part}, --{flag.name} is {flag.value}; '
        'set --neighbors to another file'
      )
  return begun


def _measure(part, results, path):
  """Adds the records of a part, and writes them one by one."""
  chosen = [
    each
    for each in families.FAMILIES
    if re.fullmatch(_FAMILIES.value, each.name)
  ]
  key = lambda record: tuple(record[name] for name in _NEW[part])
  done = {key(record): record for record in results[part]}
  for record in _records(part, chosen, done):
    done[key(record)] = record
    results[part] = list(done.values())
    run_records.write_text(path, json.dumps(results, indent=1) + '\n')


def _records(part, chosen, done):
  folder = pathlib.Path(
    _FOLDER.value or os.path.expandvars('${TT_COMPRESS_DATA}/pretrained')
  )
  arguments = _RATIOS.value, chosen, done
  if part == 'words':
    words = neighbor_words.load(folder / 'glove', _WORDS.value)
    return neighbor_words.measure(words, *arguments)
  sentences = neighbor_sentences.load(folder / 'minilm', _SENTENCES.value)
  return neighbor_sentences.measure(sentences, *arguments)


def page(results: Mapping[str, Any]) -> str:
  """The results as Markdown."""
  parts = [
    '# Neighbors that a fit keeps',
    f'`{results["command"]}`, commit {results["git"]}, '
    f'{results["machine"]["processor"]}.',
    'Pretrained matrices are fitted at three sizes and nothing is trained. '
    'Overlap at 10 is the part of the ten nearest neighbors, by cosine, that '
    'are still among the ten nearest; correlation is that of the ranks of all '
    'similarities (Spearman). Sizes are those of files: float32 arrays, codes '
    'in their bits, positions of the entries that are kept. A dash: the family '
    'has no such size. An empty cell, or a family without a line: not '
    'measured.',
    *([results['note']] if 'note' in results else []),
    '![overlap at 10 over times smaller](neighbors.png)',
  ]
  if results['words']:
    parts += [
      f'## Words: GloVe, {results["num_words"]:,} x 50',
      'The rows of the most frequent words of GloVe 6B; neighbors of 500 '
      'random ones among all of them, and similarities of 20,000 random pairs. '
      'Each cell: overlap at 10 / correlation / relative error of the matrix '
      '(times smaller, if it is not the size of the column).',
      _table(results['words'], _word_cell),
    ]
  for fit, text in (
    ('weights', 'Fitted to the weights.'),
    (
      'products',
      'Fitted to the products of each matrix with 512 training sentences of '
      'Multi30k. `planned` divides the size among the matrices as '
      '`--mode=plan --budget=` does.',
    ),
  ):
    found = [each for each in results['sentences'] if each['fit'] == fit]
    if found:
      parts += [
        f'## Sentences: MiniLM (all-MiniLM-L6-v2), by {fit}',
        f'All matrices of the encoder. {text} Neighbors among '
        f'{results["num_sentences"]:,} test sentences of Multi30k / Tatoeba. '
        'Each cell: overlap at 10, then correlation, in both texts.',
        _table(found, _sentence_cell),
      ]
  return '\n\n'.join(parts) + '\n'


def _table(found, cell):
  ratios = sorted({each['ratio'] for each in found})
  lines = {}
  for each in found:
    lines.setdefault(each['family'], {})[each['ratio']] = each
  return records.table(
    ('family', *(f'{ratio:g}x' for ratio in ratios)),
    [
      (name, *(cell(line[r]) if r in line else '' for r in ratios))
      for name, line in lines.items()
    ],
  )


def _word_cell(record):
  if 'reason' in record:
    return '-'
  parts = (record[name] for name in ('overlap', 'correlation', 'error'))
  return ' / '.join(f'{value:.3f}' for value in parts) + _size(record)


def _sentence_cell(record):
  if 'reason' in record:
    return '-'
  texts = record['texts'].values()
  return ', '.join(
    ' / '.join(f'{each[name]:.3f}' for each in texts)
    for name in ('overlap', 'correlation')
  ) + _size(record)


def _size(record):
  """The true size where it is 3 % off."""
  real = record['times_smaller']
  return '' if abs(real / record['ratio'] - 1) < 0.03 else f' ({real:g}x)'


def draw(results: Mapping[str, Any], path: pathlib.Path) -> None:
  """Draws the overlap of all families over their sizes."""
  panels = {
    'Words: GloVe': [
      (each['family'], each['times_smaller'], each['overlap'])
      for each in results['words']
      if 'reason' not in each
    ]
  }
  for fit in ('weights', 'products'):
    panels[f'Sentences (Multi30k): MiniLM, by {fit}'] = [
      (
        each['family'],
        each['times_smaller'],
        each['texts']['Multi30k']['overlap'],
      )
      for each in results['sentences']
      if each['fit'] == fit and 'reason' not in each
    ]
  panels = {title: points for title, points in panels.items() if points}
  names = dict.fromkeys(p[0] for points in panels.values() for p in points)
  looks = {name: _look(k) for k, name in enumerate(names)}
  with plots.figure(5 * len(panels) + 2.4, 5) as drawn:
    grid = drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, points) in zip(grid, panels.items(), strict=True):
      for name, look in looks.items():
        line = sorted(p[1:] for p in points if p[0] == name)
        if line:
          axes.plot(*zip(*line, strict=True), label=name, **look)
      axes.set_xscale('log', base=2)
      axes.set(title=title, xlabel='times smaller', ylim=(0, 1))
      axes.set_xticks([2, 4, 8], ['2', '4', '8'])
    grid[0].set_ylabel('overlap at 10')
    lines = {
      line.get_label(): line for axes in grid for line in axes.get_lines()
    }
    drawn.legend(
      lines.values(), lines, loc='center left', bbox_to_anchor=(0.92, 0.5)
    )
    plots.save(drawn, path, dpi=100)


def _look(number):
  colors, markers = palette.LINES, 'os^Dv'
  return dict(
    color=colors[number % len(colors)],
    marker=markers[number // len(colors)],
    linestyle=('-', '--', ':')[number // len(colors) % 3],
  )


if __name__ == '__main__':
  app.run(main)
