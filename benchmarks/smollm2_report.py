"""The page and the figure of `benchmarks.smollm2`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import records
from tt_compress.studies.report import palette, plots

# The way that the others are compared with.
_PLAIN = ('uniform', 'weights')


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown, by size."""
  losses = {(r['size'], r['ranks'], r['fit']): r['test_loss'] for r in found}
  is_tuned = any('tuned' in each for each in found)
  lines = []
  for each in sorted(found, key=lambda each: each['size']):
    against = losses.get((each['size'], *_PLAIN), each['test_loss'])
    lines.append(
      (
        f'{each["size"]:g}',
        each['ranks'],
        each['fit'],
        f'{each["params"]:,}',
        f'{4e-6 * each["params"]:.0f}',
        f'{each["test_loss"]:.3f}',
        f'{each["test_perplexity"]:,.1f}',
        f'{np.exp(against - each["test_loss"]):,.4g}',
        *([_after(each)] if is_tuned else ()),
      )
    )
  header = (
    *('times smaller', 'ranks', 'fit', 'parameters', 'MB in float32'),
    *('test loss', 'test perplexity', 'times below uniform by weights'),
    *(('test perplexity after training',) if is_tuned else ()),
  )
  return records.table(header, lines)


def _after(record):
  return (
    f'{record["tuned"]["test_perplexity"]:,.1f}' if 'tuned' in record else ''
  )


def _training(found):
  """A sentence on the training of records, if there is any."""
  tuned = [each['tuned'] for each in found if 'tuned' in each]
  if not tuned:
    return 'Nothing is trained, and nothing was chosen by these scores.'
  seconds = sorted(each['seconds'] for each in tuned)
  return (
    'Nothing was chosen by these scores. Training takes '
    f'{tuned[0]["steps"]} windows of the training split, one for each step of '
    f'Adam at a learning rate of at most {tuned[0]["rate"]:g}: '
    f'{seconds[0]:.0f} to {seconds[-1]:.0f} seconds on this machine.'
  )


def page(results: Mapping[str, Any]) -> str:
  """The results as Markdown."""
  dense, *_ = results['rows']
  size, params = results['file_bytes'], dense['params']
  parts = [
    '# A pretrained language model made smaller',
    f'`{results["command"]}`, commit {results["git"]}, '
    f'{results["machine"]["processor"]}.',
    f'SmolLM2-135M-Instruct, perplexity per token of the first '
    f'{dense["test_tokens"]:,} tokens of the test text of WikiText-2 as it is '
    f'published, in windows of {results["window"]} tokens, lines ending with a '
    'line feed. The matrices of the layers are replaced by matrices of low '
    'rank; the embedding, which makes the logits, too, stays as it is. Ranks '
    'are those of one compression ratio for all matrices (uniform), or of the '
    'plan of `planning.budget`. The fit minimizes the error of the weights '
    '(SVD), or that of products with text of the training split, by which the '
    f'plan is made, too. {_training(results["rows"])}',
    *([results['note']] if 'note' in results else []),
    table(results['rows']),
    '![test loss against size](smollm2.png)',
    f'Sizes are numbers of parameters. The source has {size / 1e6:.1f} MB, '
    f'{8 * size / params:.2f} bits per parameter with its vocabulary (layers '
    'in Q4_1, the embedding in Q8_0). The factors here are float32, 32 bits: '
    f'{4e-6 * params:.0f} MB before compression, so that 2 times fewer numbers '
    f'are {16 * params / (8 * size):.1f} times the bits of the source. They '
    f'would need {2 * 8 * size / params:.1f} bits each to be as small as it.',
  ]
  return '\n\n'.join(parts) + '\n'


def draw(found: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
  """Draws the loss against size into a PNG file."""
  dense, *others = found
  ways = dict.fromkeys((each['ranks'], each['fit']) for each in others)
  with plots.figure(6.5, 4.5) as figure:
    axes = figure.add_axes((0.12, 0.13, 0.85, 0.83))
    for way, color in zip(ways, palette.LINES, strict=False):
      points = sorted(
        (each['size'], each['test_loss'])
        for each in others
        if (each['ranks'], each['fit']) == way
      )
      style = dict(color=color, label=', by '.join(way))
      axes.plot(*zip(*points, strict=True), 'o-', **style)
    tuned = sorted(
      (each['size'], each['tuned']['test_loss'])
      for each in others
      if 'tuned' in each
    )
    if tuned:
      style = dict(color=palette.INK, label='after training')
      axes.plot(*zip(*tuned, strict=True), 's--', **style)
    axes.axhline(dense['test_loss'], color=palette.INK, label='pretrained')
    axes.set(
      xlabel='times fewer parameters',
      ylabel='test loss per token, nats',
    )
    axes.legend(frameon=False)
    plots.save(figure, path)
