"""The page and the figure of `benchmarks.own_models`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import records
from tt_compress.studies.report import palette, plots

_SCORES = ('bleu', 'accuracy', 'perplexity', 'bits_per_byte')


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown, by size, choice of ranks and fit."""
  shown = ('loss', *(name for name in _SCORES if name in found[0]))
  is_tuned = any('tuned' in each for each in found)
  number = lambda scores, name: f'{scores[name]:.4g}' if scores else ''
  lines = [
    (
      f'{each["ratio"]:g}',
      each['ranks'],
      each.get('fit', '').replace('_', ' '),
      f'{each["params"]:,}',
      *(_mean(each.get('errors', {}), kind) for kind in range(2)),
      f'{each["validation_loss"]:.4f}',
      *(number(each, name) for name in shown),
      *(number(each.get('tuned'), name) for name in shown if is_tuned),
    )
    for each in sorted(
      found,
      key=lambda each: (
        each['ratio'],
        each['ranks'] == 'planned',
        each['ranks'],
        each.get('fit', ''),
      ),
    )
  ]
  header = (
    *('times smaller', 'ranks', 'fit', 'parameters', 'error of weights'),
    *('error of products', 'validation loss'),
    *(f'test {_label(name)}' for name in shown),
    *(f'{_label(name)} after training' for name in shown if is_tuned),
  )
  return records.table(header, lines)


def _mean(errors, kind):
  """The mean error of the matrices: of weights (0) or of products (1)."""
  found = [each[kind] for each in errors.values() if each[kind] is not None]
  return f'{sum(found) / len(found):.3f}' if found else ''


def page(results: Mapping[str, Any], figure: str) -> str:
  """The results as Markdown, with the figure of this name."""
  parts = [
    '# Trained models made smaller',
    f'`{results["command"]}`, commit {results["git"]}, '
    f'{results["machine"]["processor"]}.',
    'All matrices of a trained run are replaced, with one method and one '
    'compression ratio for all of them or by the plan of `--mode=plan '
    '--budget=`. Parameters are those of the whole model. The fit minimizes '
    'the error of the weights, of their products with training batches, or of '
    'these products layer by layer, with inputs that the compressed model '
    'gives. The plan is made with errors of products. Errors are relative, '
    'means of the matrices that are replaced. Scores are those '
    'without training, and after the steps named below.',
  ]
  for name, found in results['models'].items():
    parts += [f'## {name}', *_training(found), table(found)]
  parts.append(f'![scores against size]({figure}.png)')
  return '\n\n'.join(parts) + '\n'


def _training(found):
  """A sentence on the training of records, if there is any."""
  tuned = [each['tuned'] for each in found if 'tuned' in each]
  if not tuned:
    return []
  seconds = sorted(each['seconds'] for each in tuned)
  return [
    f'{tuned[0]["steps"]} steps of training, at {tuned[0]["rate"]:g} of the '
    f'learning rate of the run: {seconds[0]:.0f} to {seconds[-1]:.0f} seconds '
    'on this machine.'
  ]


def draw(
  models: Mapping[str, Sequence[Mapping[str, Any]]], path: pathlib.Path
) -> None:
  """Draws the first score of each model against size into a PNG file."""
  with plots.figure(6.5 * len(models), 4.5) as figure:
    for number, (name, found) in enumerate(models.items()):
      width = 1 / len(models)
      axes = figure.add_axes((width * (number + 0.1), 0.13, 0.87 * width, 0.78))
      _draw(axes, found)
      axes.set_title(name)
    plots.save(figure, path)


def _draw(axes, found):
  trained, *others = found
  score = next((name for name in _SCORES if name in trained), 'loss')
  ways = dict.fromkeys((each['ranks'], each['fit']) for each in others)
  for way, color in zip(ways, palette.LINES * len(ways), strict=False):
    own = [each for each in others if (each['ranks'], each['fit']) == way]
    own.sort(key=lambda each: each['ratio'])
    label = f'{way[0]}, by {way[1].replace("_", " ")}'
    ratios = [each['ratio'] for each in own]
    scores = [each[score] for each in own]
    axes.plot(ratios, scores, 'o--', color=color, label=label)
    tuned = [each for each in own if 'tuned' in each]
    if tuned:
      axes.plot(
        [each['ratio'] for each in tuned],
        [each['tuned'][score] for each in tuned],
        's-',
        color=color,
        label=f'{label}, and training',
      )
  axes.axhline(trained[score], color=palette.INK, label='trained model')
  axes.set(xlabel='times fewer parameters', ylabel=f'test {_label(score)}')
  axes.legend(frameon=False, fontsize=8)


def _label(name):
  return 'BLEU' if name == 'bleu' else name.replace('_', ' ')
