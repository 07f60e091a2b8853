"""Pages of the parameterizations, and what was measured of all of them."""

import dataclasses
import json
import pathlib

from docs import markdown, pictures
from tt_compress import parameterizations
from tt_compress.parameterizations import base, composed

_ROWS, _COLS = 512, 512
# Of the matrix in the pictures and tables; the default is `compression_ratio`.
_OPTIONS = {
  'dense': {},
  'butterfly': {},
  'tensor_train': dict(tt_rank=8, num_modes=3),
  'nonlinear_train': dict(tt_rank=8, num_modes=3, between='gated'),
  'tensor_ring': dict(tr_rank=8, num_modes=3),
  'tucker': dict(tucker_rank=5, num_modes=2),
  'word2ket': dict(order=3, rank=1),
  'word2ketxs': dict(order=3, rank=8),
  'phm': dict(n=8),
}
_LOW_RANK = dict(name='low_rank', rank=16)
_OVER_OTHERS = {
  'pruned': dict(base=_LOW_RANK, sparsity=0.9, end=2000),
  'quantized': dict(base=_LOW_RANK, bits=4),
  'variational_dropout': dict(base=_LOW_RANK, every=500),
  'normalized': dict(base=_LOW_RANK),
  'frozen': dict(base=dict(name='dense')),
  'sum': dict(
    parts=(dict(name='frozen', base=dict(name='dense')), _LOW_RANK),
  ),
}
WHEN = {
  'dense': 'The matrix to compare with. Also the right choice for matrices so '
  'small that they do not matter to the size of a model.',
  'low_rank': 'To compress trained weights: of all parameterizations of a size '
  'it is closest to most trained matrices. Fast on every device. Trained from '
  'scratch at the same size, it is behind tensor trains in Transformers.',
  'tensor_train': 'To train from scratch: the best results here at equal size, '
  'in feed-forward layers, attention and embeddings alike. Two cores '
  '(`num_modes=2`) are the fastest in layers, three or more the smallest in '
  'embeddings.',
  'nonlinear_train': 'Experiments with embeddings. `apply` and `attend` '
  'compute all rows, slower than dense: no choice for layers or logits.',
  'tensor_ring': 'As a tensor train, to compare with published rings. Its fit '
  'to trained weights is slower, and often closer at equal size.',
  'block_tensor_train': 'Layers of large models on accelerators: two batched '
  'products, however large the ratio.',
  'monarch': 'As block tensor trains, with blocks of rank 1: the fastest of '
  'the structures with few products.',
  'butterfly': 'Very large ratios of square matrices, where log2(n) small '
  'products in a row are acceptable.',
  'tucker': 'Images and tables whose modes mean something. Its core grows with '
  'the power of the number of modes, so few modes are best.',
  'kronecker': 'Shapeshifter: layers and embeddings of one model with two '
  'ranks. A tensor train of two cores with other splits.',
  'word2ket': 'Embeddings whose words should keep parameters of their own.',
  'word2ketxs': 'Embeddings by thousands of times smaller: order 4 writes '
  '118,655 words x 300 with 380 numbers.',
  'phm': 'To compare with published PHM layers; n must divide both sizes.',
  'pruned': 'Sparse files: zeros are not stored, and products stay dense.',
  'quantized': 'Small files: arrays are trained as rounded to 2 to 8 bits.',
  'variational_dropout': 'Pruning that decides by itself how much to remove.',
  'normalized': 'Trainings that diverge: it bounds the size of each factor.',
  'frozen': 'The part of a sum that keeps its trained values.',
  'sum': 'Adapters (LoRA), and low rank with a sparse rest (LoSparse).',
}
_ERRORS = 'fit.json'
_TRAINING = 'training_well-multi30k.json'


def make(name: str) -> base.Parameterization:
  """The example of a page: a matrix of 512 x 512."""
  options = _OPTIONS.get(name, dict(compression_ratio=8))
  options = _OVER_OTHERS.get(name, options)
  return parameterizations.make(name, _ROWS, _COLS, **options)


def write(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes `methods/NAME.md` for each parameterization, and their index."""
  folder = folder / 'methods'
  for name, cls in parameterizations.REGISTRY.items():
    markdown.write(folder / f'{name}.md', *_page(name, cls, folder))
  markdown.write(
    folder / 'index.md',
    '# Parameterizations',
    'Each page has the equation, the options and the cost of one. The pictures '
    'show the factors of a matrix of 512 x 512: lines between boxes are summed '
    'indices, lines upwards are digits of the row, lines downwards those of '
    'the column.',
    markdown.table(
      ('name', 'when to use it'),
      [(f'[`{name}`]({name}.md)', text) for name, text in WHEN.items()],
    ),
    markdown.toctree(parameterizations.REGISTRY),
  )
  markdown.write(folder / 'measured.md', *_measured(root / 'results'))


def _page(name, cls, folder):
  docstring = markdown.parse(cls.__doc__)
  yield f'# `{name}`'
  yield WHEN[name]
  yield f'```text\n{docstring.summary}\n```'
  if not issubclass(cls, composed.Composed):
    spec = make(name)
    if name != 'butterfly':  # Its levels share too many digits for a picture.
      pictures.network(folder / f'{name}.svg', spec.network)
      yield f'![factors of a matrix of 512 x 512]({name}.svg)'
    yield (
      f'`{spec}` has {spec.num_params:,} numbers in place of '
      f'{_ROWS * _COLS:,}, a ratio of {_ROWS * _COLS / spec.num_params:.1f}.'
    )
  yield from docstring.text
  yield '## Options'
  yield '\n'.join(f'- `{k}`: {text}' for k, text in _options(cls).items())
  for title, text in docstring.sections.items():
    yield f'## {title}'
    yield text
  yield '## In a configuration'
  yield f'```python\n{_rule(name)}\n```'
  yield f'Source: `{cls.__module__}.{cls.__name__}`.'


def _options(cls):
  """Descriptions of options, those of the class before those of its bases."""
  options = {field.name for field in dataclasses.fields(cls)} - {'rows', 'cols'}
  found = {}
  for each in cls.__mro__[:-1]:
    for name, text in markdown.parse(each.__doc__).attributes.items():
      if name in options and not text.startswith('see '):
        found.setdefault(name, text)
  return found


def _rule(name):
  options = _OVER_OTHERS.get(name, _OPTIONS.get(name))
  options = dict(compression_ratio=8) if options is None else options
  values = [f"name='{name}'", *(f'{k}={v!r}' for k, v in options.items())]
  lines = ''.join(f'    {value},\n' for value in values)
  return f"config.compress = (\n  ('.*/ffn/.*', dict(\n{lines}  )),\n)"


def _measured(results):
  yield '# Measured differences'
  yield (
    'Made from `results/`. Errors of fits are Frobenius norms relative to the '
    'trained matrix, without any training after the fit; a fit that knows the '
    'inputs of a matrix is closer in what matters.'
  )
  yield from _fits(json.loads((results / _ERRORS).read_text()))
  yield from _trainings(json.loads((results / _TRAINING).read_text()))


def _fits(record):
  for trained in record['trained'].values():
    rows, cols = trained['shape']
    ratios = sorted({fit['asked_ratio'] for fit in trained['fits']})
    lines = {}
    for fit in trained['fits']:
      options = ''.join(f', {k}={v}' for k, v in fit['options'].items())
      line = lines.setdefault(fit['entry'] + options, {})
      line[fit['asked_ratio']] = fit.get('error')
    yield f'## Fits to a trained matrix: {trained["what"]}'
    yield f'A matrix of {rows} x {cols}; commit `{record["git"][:7]}`.'
    yield markdown.table(
      ('method', *(f'error at {ratio}x' for ratio in ratios)),
      [
        (name, *(_number(line.get(ratio)) for ratio in ratios))
        for name, line in lines.items()
      ],
    )


def _trainings(record):
  best = {}
  for found in record['rows']:
    losses = [run['values']['validation loss'] for run in found['runs']]
    if losses:
      series, loss = found['row']['series'], sum(losses) / len(losses)
      best[series] = min(loss, best.get(series, loss))
  yield f'## {record["title"]}'
  yield '\n\n'.join(record['text'])
  yield markdown.table(
    ('method', 'validation loss at its best rate'),
    [(name, _number(best[name])) for name in sorted(best, key=best.get)],
  )


def _number(value):
  return 'not possible' if value is None else f'{value:.3f}'
