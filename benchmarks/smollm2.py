"""A pretrained language model made smaller: perplexity against size.

  export TT_COMPRESS_DATA=...   # wikitext-2, and that of launch/resources.sh
  python -m benchmarks.smollm2

The matrices of the layers of SmolLM2-135M are replaced by matrices of low rank,
with one ratio for all of them or by the plan of `planning.budget`; by the error
of the weights and by that of products with text of the training split. The
embedding, which makes the logits, too, stays as it is. With
`--training_steps`, the planned models fitted by products are then trained, each
step with a window of the training split. Nothing is chosen by the test text.
The sensitivities of 210 matrices take 13 minutes of a busy core with
`--probe_tokens=128`, and 9 GB of memory; a step of training takes 6 seconds.
Writes JSON, a page of Markdown and a figure after each row; the same command
continues where it was interrupted.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from flax import nnx

from benchmarks import fine_tuning, own_models, records, smollm2_report
from tt_compress import pretrained
from tt_compress.algebra import weighting
from tt_compress.data import pretrained_vocabulary, token_files, token_streams
from tt_compress.nn import (
  calibration,
  compress,
  fitting,
  modules,
  serving,
  swapped,
)
from tt_compress.parallel import compile_cache
from tt_compress.planning import budget, candidates
from tt_compress.training import records as run_records

_MODEL = flags.DEFINE_string(
  'model',
  '${TT_COMPRESS_DATA}/pretrained/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  'A folder or a GGUF file of a LLaMA.',
)
_SIZES = flags.DEFINE_multi_float(
  'size', [1.25, 1.5, 2.0], 'Parameters of the model relative to the new ones.'
)
_TEST = flags.DEFINE_integer(
  'test_tokens', 16_384, 'First ones of the test text.'
)
_CALIBRATION = flags.DEFINE_integer(
  'calibration_tokens', 4096, 'Evenly spaced ones of the training text.'
)
_PROBE = flags.DEFINE_integer(
  'probe_tokens',
  256,
  'Of each of two windows, on which the loss with one matrix replaced is '
  'measured.',
)
_STEPS = flags.DEFINE_integer(
  'training_steps', 0, 'Of planned models fitted by products, a window each.'
)
_RATE = flags.DEFINE_float(
  'training_rate', 1e-4, 'The highest learning rate of these.'
)
_OUTPUT = flags.DEFINE_string(
  'perplexities',
  'results/smollm2.json',
  'The page and the figure lie beside it.',
)
_MEASURED = flags.DEFINE_string(
  'measured', 'runs/smollm2/measured.json', 'What the plans are made from.'
)
_TEXT = '${TT_COMPRESS_DATA}/wikitext-2/wiki.%s.tokens.xz'
# The embedding is not among them.
LAYERS = 'decoder/layers/.*'
LOW_RANK = dict(name='low_rank')
WAYS = (
  ('uniform', 'weights'),
  ('uniform', 'products'),
  ('planned', 'products'),
  ('planned', 'weights'),
)
BEST = ('planned', 'products')  # which is trained
_CALIBRATION_WINDOW = 256
_WINDOW = 512


def loss(model: nnx.Module, batch: Mapping[str, Any]) -> jax.Array:
  """The mean loss of the targets of a batch, in nats."""
  x = model.features(batch['inputs'])
  total = model.cross_entropy(x, batch['targets'], batch['weights'])
  return total / jnp.sum(batch['weights'])


class Calibration(calibration.Calibration):
  """Batches whose moments are computed once, of the matrices of the layers."""

  @functools.cached_property
  def _found(self) -> dict[str, weighting.Weighting]:
    return {}

  def weightings(self, model, rule_list):
    if not self._found:
      self._found.update(super().weightings(model, [(LAYERS, {})]))
    return self._found


class Nested:
  """Fits of low rank, by one decomposition for the ranks of a matrix.

  The nearest matrix of a rank has the first terms of that of a higher rank.

  Args:
    weights: of the errors, by path; empty for the errors of the weights.
  """

  def __init__(self, weights: Mapping[str, weighting.Weighting]):
    self.weights, self._found = weights, {}

  def __call__(self, path: str, spec: Any, matrix: Any) -> dict[str, Any]:
    if path not in self._found:
      whole = dataclasses.replace(spec, rank=min(spec.rows, spec.cols))
      matrix = np.asarray(matrix, np.float64)
      self._found[path] = (
        whole.fit_products(matrix, self.weights[path])
        if self.weights
        else whole.fit(matrix)
      )
    terms = self._found[path]
    return {name: jnp.asarray(a[:, : spec.rank]) for name, a in terms.items()}


class Model:
  """A pretrained language model and texts.

  Args:
    path: of a LLaMA, see `pretrained.load`.
    train, test: running texts.
    num_calibration, num_test: tokens of them that are used.
    num_probe: tokens of two windows each, for the sensitivities.
    measured: file of what plans are made from, written when it is missing.
  """

  def __init__(
    self,
    path: str,
    train: token_streams.TokenStream,
    test: token_streams.TokenStream,
    *,
    num_calibration: int,
    num_test: int,
    num_probe: int,
    measured: str,
  ):
    path = os.path.expandvars(path)
    self._num_probe, self._file = num_probe, pathlib.Path(measured)
    self.model = pretrained.load(path).model()
    words = pretrained_vocabulary.PretrainedVocabulary.train(
      (),
      max_size=self.model.config.vocab_size,
      cache_dir='',
      folder=path,
      end='\n',
    )
    self._test = _windows(
      token_files.encode(test, words)[: num_test + 1], _WINDOW
    )
    ids = token_files.encode(train, words)
    self._train = lambda: _windows(ids, _WINDOW)
    self._texts = {
      'calibration': num_calibration,
      'probe': num_probe,
      'sha256': hashlib.sha256(np.asarray(ids).tobytes()).hexdigest(),
    }
    self._calibration = Calibration(
      _windows(ids, _CALIBRATION_WINDOW, num_calibration), call=loss
    )
    self.shapes = {
      path: (module.spec.rows, module.spec.cols)
      for path, module in modules.matrices(self.model).items()
      if re.fullmatch(LAYERS, path)
    }
    graphdef, self.params, self._buffers = modules.split(self.model)
    self.num_params = modules.num_params(self.params)
    self._run = jax.jit(
      lambda params, buffers, batch: loss(
        modules.merge(graphdef, params, buffers), batch
      )
    )

  def scores(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """Loss in nats and perplexity per token of the test text."""
    sums = [
      (float(self._run(params, self._buffers, batch)), _count(batch))
      for batch in self._test
    ]
    total = sum(count for _, count in sums)
    mean = sum(found * count for found, count in sums) / total
    return {
      'test_loss': mean,
      'test_perplexity': float(np.exp(mean)),
      'test_tokens': int(total),
      'window_losses': [round(found, 5) for found, _ in sums],
    }

  def compressed(
    self, rules: fitting.Rules, fit: str
  ) -> tuple[dict[str, Any], swapped.Report]:
    """The arrays of the dense model after a fit, and the report of the fit."""
    model, report = self._fitted(rules, fit)
    return _expanded(model), report

  def fine_tuned(
    self, rules: fitting.Rules, fit: str, steps: int, rate: float
  ) -> dict[str, Any]:
    """Scores after steps of training of the fitted factors and all else."""
    model, _ = self._fitted(rules, fit)
    model, seconds = fine_tuning.trained(
      model, loss, self._train(), steps, rate
    )
    scores = self.scores(_expanded(model))
    numbers = {'steps': steps, 'rate': rate, 'seconds': round(seconds, 1)}
    return numbers | scores

  def _fitted(self, rules, fit):
    model = nnx.clone(self.model, graph=True)
    by = self.by_weights if fit == 'weights' else self.by_products
    return model, compress.compress(model, rules, nnx.Rngs(0), fit=by)

  @functools.cached_property
  def by_weights(self) -> Nested:
    return Nested({})

  @functools.cached_property
  def by_products(self) -> Nested:
    return Nested(self._calibration.weightings(self.model, [(LAYERS, {})]))

  def rules(self, ranks: str, limit: int) -> fitting.Rules:
    """Of a model with at most so many parameters."""
    if ranks == 'planned':
      return self.measured.plan(limit).rules
    ones = dict.fromkeys(self.shapes, 1)
    sizes = budget.Measured(self.num_params, 0.0, self.shapes, ones, {}, {})
    [(_, options)] = own_models.uniform(sizes, LOW_RANK, limit)
    return [(LAYERS, options)]

  @functools.cached_property
  def measured(self) -> budget.Measured:
    """Candidates and sensitivities, from the file if it is there."""
    if self._file.exists():
      found, texts = _read(self._file)
      if found.shapes != self.shapes:
        raise ValueError(f'{self._file} is of another model; remove it')
      if texts != self._texts:
        raise ValueError(
          f'{self._file} was measured with tokens {texts}, this call has '
          f'{self._texts}; remove it, or set --measured= to another file'
        )
      return found
    begin = lambda batch: {
      name: a[:, : self._num_probe] for name, a in batch.items() if a.ndim > 1
    }
    found = budget.measure(
      self.model,
      self._calibration,
      loss=lambda model, batch: loss(model, begin(batch)),
      methods=(LOW_RANK,),
      patterns=(LAYERS,),
    )
    self._file.parent.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(found) | {'texts': self._texts}
    text = json.dumps(content, default=float) + '\n'
    run_records.write_text(self._file, text)
    return found


def _expanded(model):
  serving.expand(model)
  _, params, _ = modules.split(model)
  return params


def _read(path):
  """What plans are made from, and its text."""
  found = json.loads(path.read_text())
  texts = found.pop('texts', None)
  found['options'] = {
    name: [candidates.Candidate(**each) for each in options]
    for name, options in found['options'].items()
  }
  found['shapes'] = {k: tuple(shape) for k, shape in found['shapes'].items()}
  return budget.Measured(**found), texts


def _windows(ids, length, max_tokens=None):
  """The batches of one window each."""
  found = token_streams.windows(
    ids, batch_size=1, length=length, max_tokens=max_tokens, shuffle=False
  )
  return [found.batch(step) for step in range(found.steps_per_epoch)]


def _count(batch):
  return float(np.sum(batch['weights']))


def rows(
  model: Model,
  sizes: Sequence[float],
  found: Sequence[Mapping[str, Any]] = (),
  steps: int = 0,
  rate: float = 1e-4,
) -> Iterator[list[dict[str, Any]]]:
  """The records of all sizes and ways, after each new one.

  Args:
    model: the pretrained one.
    sizes: numbers of its parameters relative to those of the new ones.
    found: records that are there already.
    steps: of training planned models fitted by products.
    rate: their highest learning rate.
  """
  found = [dict(each) for each in found]
  if not found:
    first = {'size': 1.0, 'ranks': 'pretrained', 'fit': ''}
    found.append(
      {**first, 'params': model.num_params, **model.scores(model.params)}
    )
    yield found
  known = {(each['size'], each['ranks'], each['fit']) for each in found}
  for ranks, fit in WAYS:
    for size in sizes:
      if (size, ranks, fit) not in known:
        found.append(_row(model, size, ranks, fit))
        yield found
  for own in found[1:]:
    if steps and (own['ranks'], own['fit']) == BEST and 'tuned' not in own:
      rules = model.rules(own['ranks'], int(model.num_params / own['size']))
      own['tuned'] = model.fine_tuned(rules, own['fit'], steps, rate)
      yield found


def _row(model, size, ranks, fit):
  """The record of a fit without training."""
  rules = model.rules(ranks, int(model.num_params / size))
  params, report = model.compressed(rules, fit)
  saved = sum(
    swap.spec.rows * swap.spec.cols - swap.spec.num_params
    for swap in report.swapped
  )
  made = {
    **{'size': size, 'ranks': ranks, 'fit': fit},
    'params': model.num_params - saved,
    **model.scores(params),
  }
  logging.info('%s', made)
  chosen = {swap.path: swap.spec.rank for swap in report.swapped}
  return made | {'chosen': chosen}


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  compile_cache.use()
  path = pathlib.Path(_OUTPUT.value)
  results = _begun(path)
  train, test = (
    token_streams.load(split, files={split: _TEXT % split})
    for split in ('train', 'test')
  )
  model = Model(
    _MODEL.value,
    train,
    test,
    num_calibration=_CALIBRATION.value,
    num_test=_TEST.value,
    num_probe=_PROBE.value,
    measured=_MEASURED.value,
  )
  results['file_bytes'] = os.path.getsize(os.path.expandvars(_MODEL.value))
  begun = results['rows']
  for found in rows(model, _SIZES.value, begun, _STEPS.value, _RATE.value):
    results['rows'] = found
    path.parent.mkdir(parents=True, exist_ok=True)
    run_records.write_text(path, json.dumps(results, indent=1) + '\n')
    page = smollm2_report.page(results)
    run_records.write_text(path.with_suffix('.md'), page)
    smollm2_report.draw(results['rows'], path.with_suffix('.png'))
  print(smollm2_report.page(results))


def _begun(path):
  """The results so far of this command, or those of none."""
  options = [f'--size={size:g}' for size in _SIZES.value] + [
    f'--{flag.name}={flag.value}' for flag in (_TEST, _CALIBRATION, _PROBE)
  ]
  if _STEPS.value:
    options += [f'--{flag.name}={flag.value:g}' for flag in (_STEPS, _RATE)]
  if _MODEL.value != _MODEL.default:
    options.append(f'--model={os.path.basename(_MODEL.value.rstrip("/"))}')
  results = {
    'command': ' '.join(['python -m benchmarks.smollm2', *options]),
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'window': _WINDOW,
    'rows': [],
  }
  if path.exists():
    begun = json.loads(path.read_text())
    if begun['command'] == results['command']:
      return begun
  return results


if __name__ == '__main__':
  app.run(main)
