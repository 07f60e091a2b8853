"""Similarities of sentences after the compression of their encoder."""

import collections
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from benchmarks import families, kept, records
from tt_compress import pretrained
from tt_compress.data import parallel_texts
from tt_compress.nn import calibration, compress, fitting, modules, serving
from tt_compress.planning import budget

K = 10
# Its matrices but that of the two segments, which has two rows.
PATTERN = 'embed|positions|encoder/.*'
_LENGTHS = (16, 32, 64, 128)
_BATCH, _CALIBRATED = 32, 512
PLANNED = 'planned'
Texts = Mapping[str, Sequence[str]]
Variables = Mapping[str, Any]


def vectors(
  model: nnx.Module, tokens: Int[ArrayLike, 'batch length']
) -> Float[Array, 'batch dim']:
  """The mean of the features of all tokens of a text, of length 1.

  Args:
    model: an `encoder`.
    tokens: ids, followed by zeros.
  """
  mask = (jnp.asarray(tokens) != 0)[..., None]
  total = jnp.sum(model(tokens) * mask, axis=1)
  return total / jnp.linalg.norm(total, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Once:
  """A calibration that runs once for all fits of the same matrices."""

  calibration: calibration.Calibration

  def fits(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> tuple[fitting.Function, fitting.Weights]:
    patterns = tuple(pattern for pattern, _ in fitting.pairs(rule_list))
    if patterns not in self._found:
      self._found[patterns] = self.calibration.weightings(model, rule_list)
    weights = self._found[patterns]
    return fitting.by_weights(weights), weights

  @functools.cached_property
  def _found(self):
    return {}


class Sentences:
  """A pretrained encoder of sentences, and sentences to compare.

  Args:
    found: the encoder.
    texts: sentences as lists of ids, by name of the text.
    sample: sentences as lists of ids for calibration, of which those of the
      most frequent length are taken.

  Attributes:
    expected: vectors of the sentences by the encoder, by text.
  """

  def __init__(
    self,
    found: pretrained.Pretrained,
    texts: Mapping[str, Sequence[Sequence[int]]],
    sample: Sequence[Sequence[int]],
  ):
    self.make = found.model
    graphdef, params, buffers = modules.split(self.make())
    self._batches = {name: _batches(text) for name, text in texts.items()}
    self._encode = jax.jit(
      lambda variables, tokens: vectors(
        modules.merge(graphdef, **variables), tokens
      )
    )
    self._calibration = calibration.Calibration(_equally_long(sample))
    self.by_products = Once(self._calibration)
    variables = {'params': params, 'buffers': buffers}
    self.num_params = modules.num_params(params)
    self._matrices = {
      path: module.spec.rows * module.spec.cols
      for path, module in modules.matrices(self.make()).items()
      if not path.startswith('segments')
    }
    self.expected = self._vectors(variables)

  def record(self, rules: fitting.Rules, fit: fitting.Fit) -> dict[str, Any]:
    """What a compressed encoder keeps; 'reason' if there is none."""
    model = self.make()
    start = time.perf_counter()
    try:
      report = compress.compress(model, rules, nnx.Rngs(0), fit=fit)
    except ValueError as error:
      return {'reason': str(error)}
    # Weights are pruned by the schedule of a training, whose end is step 1.
    modules.project(model, 1)
    seconds = time.perf_counter() - start
    bits = modules.stored_size(model)['bits']
    errors = [float(swap.error) for swap in report.swapped]
    serving.expand(model)
    _, params, buffers = modules.split(model)
    return {
      'times_smaller': records.rounded(32 * self.num_params / bits),
      'mean_error': round(float(np.mean(errors)), 4),
      **self._kept({'params': params, 'buffers': buffers}),
      'fit_seconds': records.rounded(seconds),
    }

  def rules(
    self, family: families.Family | None, ratio: float
  ) -> fitting.Rules:
    """Those of one family, or of a plan, for a number of times smaller."""
    if family is not None:
      return [(PATTERN, family.options(self._share(ratio)))]
    return self._measured.plan(int(self.num_params / ratio)).rules

  def _share(self, ratio):
    """Times smaller for matrices, if the model is to be so much smaller."""
    matrices = sum(self._matrices.values())
    rest = self.num_params - matrices
    return matrices / (self.num_params / ratio - rest)

  @functools.cached_property
  def _measured(self):
    """Candidates for all matrices, and what their errors cost."""
    model = self.make()
    batches = [
      {'tokens': tokens, 'vectors': vectors(model, tokens)}
      for tokens in self._calibration.batches
    ]
    calibrated = calibration.Calibration(
      batches, call=lambda model, batch: model(batch['tokens'])
    )
    return budget.measure(
      model, calibrated, loss=_distance, patterns=(PATTERN,)
    )

  def _kept(self, variables):
    found = self._vectors(variables)
    result = {}
    for name, expected in self.expected.items():
      upper = np.triu_indices(len(expected), 1)
      ours, theirs = found[name], expected
      result[name] = {
        'overlap': round(
          kept.overlap(kept.nearest(ours, K), kept.nearest(theirs, K)), 4
        ),
        'correlation': round(
          kept.rank_correlation(
            (ours @ ours.T)[upper], (theirs @ theirs.T)[upper]
          ),
          4,
        ),
      }
    return {'texts': result}

  def _vectors(self, variables: Variables) -> dict[str, np.ndarray]:
    """The vectors of all sentences in their order, by text."""
    found = {}
    for name, batches in self._batches.items():
      places = np.concatenate([places for places, _ in batches])
      encoded = [
        np.asarray(self._encode(variables, tokens))[: len(places)]
        for places, tokens in batches
      ]
      ordered = np.empty((len(places), encoded[0].shape[-1]), np.float32)
      ordered[places] = np.concatenate(encoded)
      found[name] = ordered
    return found


def _distance(model, batch):
  """Mean of 1 - cosine with the vectors of the original model."""
  found = vectors(model, batch['tokens'])
  return jnp.mean(1 - kept.cosines(found, batch['vectors']))


def _batches(text):
  """(places in the text, tokens) of sentences of similar lengths."""
  groups = collections.defaultdict(list)
  for place, ids in enumerate(text):
    groups[next(n for n in _LENGTHS if len(ids) <= n)].append(place)
  found = []
  for length, places in sorted(groups.items()):
    for start in range(0, len(places), _BATCH):
      chosen = places[start : start + _BATCH]
      # Rows that no sentence fills stay out of the result.
      tokens = np.ones((_BATCH, length), np.int32)
      for row, place in enumerate(chosen):
        ids = text[place]
        tokens[row] = [*ids, *[0] * (length - len(ids))]
      found.append((np.array(chosen), tokens))
  return found


def _equally_long(sample):
  """Batches of sentences of one length, which need no padding."""
  counts = collections.Counter(map(len, sample))
  [(length, _)] = counts.most_common(1)
  chosen = [ids for ids in sample if len(ids) == length][:_CALIBRATED]
  whole = len(chosen) // _BATCH * _BATCH or len(chosen)
  return [
    np.array(chosen[start : start + _BATCH], np.int32)
    for start in range(0, whole, _BATCH)
  ]


def load(folder: str | os.PathLike, count: int) -> Sentences:
  """MiniLM of a folder of `launch/resources.sh`, and sentences to compare.

  They are the English sides of the test splits of Multi30k and Tatoeba, of each
  the first `count` that occur once. Calibration has training sentences of
  Multi30k alone, so that Tatoeba shows other texts.
  """
  import tokenizers

  found = pretrained.load(os.fspath(folder))
  tokenizer = tokenizers.Tokenizer.from_file(
    str(pathlib.Path(folder, 'tokenizer.json'))
  )
  tokenizer.no_padding()
  tokenizer.enable_truncation(_LENGTHS[-1])
  encode = lambda text: [each.ids for each in tokenizer.encode_batch(text)]
  texts = {
    title: encode(_english('test', name)[:count])
    for title, name in (
      ('Multi30k', 'multi30k/de-en'),
      ('Tatoeba', 'tatoeba/de-en'),
    )
  }
  return Sentences(found, texts, encode(_english('train', 'multi30k/de-en')))


def _english(split, name):
  pairs = parallel_texts.load(
    split, name=name, source_language='de', target_language='en'
  )
  return list(dict.fromkeys(pairs.target))


def measure(
  sentences: Sentences,
  ratios: Sequence[float],
  chosen: Sequence[families.Family],
  done: Mapping[tuple, Mapping],
) -> Iterator[dict[str, Any]]:
  """A record for each fit, size and family, and for plans.

  Args:
    sentences: whose encoder is compressed.
    ratios: numbers of times that the model is to be smaller.
    chosen: families.
    done: records of an earlier call by (fit, ratio, family), which are kept.
  """
  chosen = [each for each in chosen if each.is_layer]
  by_products = [each for each in chosen if each.fits_products]
  keys = [
    *(('weights', ratio, each) for each in chosen for ratio in ratios),
    *(('products', ratio, each) for each in by_products for ratio in ratios),
    *(('products', ratio, None) for ratio in ratios),
  ]
  fits = {'weights': 'weights', 'products': sentences.by_products}
  for fit, ratio, family in keys:
    name = PLANNED if family is None else family.name
    found = done.get((fit, ratio, name))
    if found is None:
      found = {'fit': fit, 'ratio': ratio, 'family': name}
      try:
        rules = sentences.rules(family, ratio)
      except ValueError as error:
        found['reason'] = str(error)
      else:
        found |= sentences.record(rules, fits[fit])
    yield found
