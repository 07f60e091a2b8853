"""Language modeling: pieces of a running text, loss and perplexity."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int32
from ml_collections import config_dict

from tt_compress import models
from tt_compress.data import (
  batching,
  token_files,
  token_streams,
  vocabularies,
)
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, run_vocabulary


class LanguageModeling(base.Task):
  """Prediction of the next token in a text.

  A model without memory reads independent windows: the first token of a window
  predicts the second one without the text before. A model with memory, whose
  options have `memory_shapes`, reads contiguous streams, a segment per step,
  and its memory is the carry.

  Attributes:
    tokens: vocabulary of the text.
  """

  kind = 'token streams'
  unit = 'tokens'
  reporting = (
    'evaluation.batch_size',
    'evaluation.window',
    'evaluation.memory_length',
    'evaluation.clamp_length',
    'evaluation.final_tokens',
  )
  inputs = ('data.vocabulary',)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    self.tokens = run_vocabulary.RunVocabulary(
      workdir,
      lambda: self.load('train'),
      name=config.data.vocabulary,
      options=config.data.vocabulary_options,
      model=config.model,
    )
    self._sums = evaluation.fold(self._batch_sums)

  @classmethod
  def defaults(cls) -> dict:
    return dict(
      data=dict(
        source='embedded',  # a name in data.sources.SOURCES['token streams']
        options={},  # of that source
        vocabulary='bytes',  # a name in data.vocabularies.VOCABULARIES
        vocabulary_options={},  # of that vocabulary
        window=128,  # tokens of a window or segment
        batch_size=16,  # windows or streams
      ),
      model=dict(vocab_size=256),
      evaluation=dict(
        every=500,  # steps
        batch_size=32,  # windows or streams
        # Tokens of a window or segment; None takes those of the training.
        window=config_dict.placeholder(int),
        # Of a model with memory, entries that it remembers and the largest
        # distance that it tells apart; None takes its own.
        memory_length=config_dict.placeholder(int),
        clamp_length=config_dict.placeholder(int),
        # Largest number of tokens that a validation during training and the
        # final evaluation score, in evenly spaced windows or at the beginnings
        # of streams; None scores all.
        max_tokens=config_dict.placeholder(int),
        final_tokens=config_dict.placeholder(int),
        metric='loss',
      ),
    )

  @classmethod
  def batch_rows(cls, config) -> int:
    return config.data.batch_size * config.data.window

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    data = config.data
    number = batching.filled(data.batch_size, batch_multiple)
    shape = number, data.window
    shapes = {
      'inputs': jax.ShapeDtypeStruct(shape, jnp.int32),
      'targets': jax.ShapeDtypeStruct(shape, jnp.int32),
      'weights': jax.ShapeDtypeStruct(shape, jnp.float32),
      'positions': jax.ShapeDtypeStruct((number,), jnp.int32),
    }
    if _has_memory(config):
      shapes['starts'] = jax.ShapeDtypeStruct((number,), jnp.bool)
    return shapes

  @classmethod
  def carry_shapes(cls, config) -> dict[str, Any]:
    return _memory_shapes(config, config.data.batch_size)

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    data, scored = config.data, config.evaluation
    vocabularies.check(data.vocabulary, data.vocabulary_options)
    lengths = {
      'data.window': data.window,
      'evaluation.window': scored.window,
    }
    if not _has_memory(config):
      _check_windows(config, lengths)
    least_ones = {
      **lengths,
      'data.batch_size': data.batch_size,
      'evaluation.clamp_length': scored.clamp_length,
      'evaluation.max_tokens': scored.max_tokens,
      'evaluation.final_tokens': scored.final_tokens,
    }
    for name, size in least_ones.items():
      if size is not None and size < 1:
        raise ValueError(f'{name}={size} must be at least 1')
    if scored.memory_length is not None and scored.memory_length < 0:
      raise ValueError(
        f'evaluation.memory_length={scored.memory_length} must be at least 0'
      )

  @classmethod
  def shrink(cls, config) -> None:
    config.data.update(source='embedded', window=32, batch_size=16)
    # `update` would keep those of another source.
    config.data.options = dict(num_train=2000)
    sizes = dict(
      max_length=32,
      memory_length=32,
      model_dim=64,
      ffn_dim=128,
      num_heads=4,
      num_layers=1,
    )
    config.model.update(
      {name: size for name, size in sizes.items() if name in config.model}
    )
    config.evaluation.update(max_tokens=4096, final_tokens=4096)

  def prepare(self) -> dict:
    for split in ('validation', 'test'):
      self._split_batches(split, None)
    return {
      'num_tokens': self.num_examples,
      'train_sha256': self.load('train').digest,
      **self.tokens.facts(),
    }

  @property
  def vocabularies(self) -> list[run_vocabulary.RunVocabulary]:
    return [self.tokens]

  def _batches(
    self, split: str, order: Mapping[str, Any], **options: Any
  ) -> batching.Batches:
    """Windows of a split in an order, or streams for a model with memory."""
    cut = token_streams.windows
    if _has_memory(self._config):
      cut, order = token_streams.batches, {}
    return cut(self._ids(split), **order, **options)

  def _ids(self, split: str) -> Int32[np.ndarray, ' ids']:
    return token_files.encode(self.load(split), self.tokens.value)

  def train_batches(self, **share: int) -> batching.Batches:
    """Windows of the training text in random order, or streams.

    Args:
      **share: `batch_multiple`, `process_index`, `process_count` of `Batches`.
    """
    config = self._config
    return self._batches(
      'train',
      {'seed': config.seed},
      batch_size=config.data.batch_size,
      length=config.data.window,
      **share,
    )

  @functools.lru_cache(maxsize=4)  # noqa: B019 - a task lives as long as a run
  def _split_batches(
    self, split: str, max_tokens: int | None
  ) -> batching.Batches:
    """Windows or streams of a split in order, those that are scored."""
    config = self._config
    return self._batches(
      split,
      {'shuffle': False},
      batch_size=config.evaluation.batch_size,
      length=config.evaluation.window or config.data.window,
      max_tokens=max_tokens,
    )

  @functools.cached_property
  def num_examples(self) -> int:
    """Tokens of the training text that are predicted, ends included."""
    return len(self._ids('train')) - 1

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Sum of the loss over tokens, their number, and the carry.

    Args:
      model: has `features` of tokens, or with memory `read`, and the
        `cross_entropy` of the result, as a `TokenModel`.
      batch: see `token_streams.windows` and `token_streams.batches`.
      noise: keys of the dropout; None means deterministic.
      carry: the memory of the model; empty without one.
    """
    x, carry = self._read(model, batch, carry, noise)
    total = model.cross_entropy(
      x, batch['targets'], batch['weights'], noise=noise
    )
    return total, jnp.sum(batch['weights']), carry

  def _read(self, model, batch, memory, noise=None, **options):
    """What the model predicts targets by, and its memory after the batch."""
    if not _has_memory(self._config):
      return model.features(batch['inputs'], noise), memory

    def forget(a):
      starts = batch['starts'].reshape(-1, *[1] * (a.ndim - 1))
      return jnp.where(starts, jnp.zeros_like(a), a)

    memory = jax.tree.map(forget, memory)
    x, memory = model.read(batch['inputs'], memory, noise, **options)
    return x, jax.lax.stop_gradient(memory)

  def _batch_sums(
    self, variables: Mapping, memory: Any, batch: Mapping[str, jax.Array]
  ) -> tuple[dict[str, jax.Array], Any]:
    """Sums over the targets of a batch, and the memory."""
    model = modules.merge(self._graphdef, **variables)
    clamp = self._config.evaluation.clamp_length
    options = {} if clamp is None else {'clamp_length': clamp}
    x, memory = self._read(model, batch, memory, **options)
    total = model.cross_entropy(x, batch['targets'], batch['weights'])
    return {'loss': total, 'tokens': jnp.sum(batch['weights'])}, memory

  def _scores(
    self, variables: Mapping, split: str, max_tokens: int | None
  ) -> base.Scores:
    batches = self._split_batches(split, max_tokens)
    config = self._config.evaluation
    shapes = _memory_shapes(
      self._config, config.batch_size, config.memory_length
    )
    sums = self._sums(
      variables,
      jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes),
      map(batches.batch, range(batches.steps_per_epoch)),
    )
    loss = sums['loss'] / sums['tokens']
    with np.errstate(over='ignore'):
      scores = {'loss': float(loss), 'perplexity': float(np.exp(loss))}
    if self._config.data.vocabulary == 'bytes':
      scores['bits_per_byte'] = float(loss / np.log(2))
    name = self.load(split).name
    return {**scores, 'num_tokens': int(sums['tokens']), 'data': name}

  def validate(self, variables: Mapping) -> dict[str, float]:
    max_tokens = self._config.evaluation.max_tokens
    scores = self._scores(variables, 'validation', max_tokens)
    return {name: scores[name] for name in ('loss', 'perplexity')}

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split.

    Returns:
      'loss' (nats per token), 'perplexity' (its exponential), 'bits_per_byte'
      if tokens are bytes, 'num_tokens' that were scored, and 'data', the name
      of the data.
    """
    return self._scores(variables, split, self._config.evaluation.final_tokens)

  def headline(self, scores: base.Scores) -> str:
    if 'bits_per_byte' in scores:
      return f'bits per byte = {scores["bits_per_byte"]:.4f}'
    return f'perplexity = {scores["perplexity"]:.2f}'

  def report(self, split: str, scores: base.Scores) -> str:
    return (
      f'\n{split} loss {scores["loss"]:.4f} nats per token  '
      f'{scores["num_tokens"]:,} tokens, {scores["data"]}\n'
      f'{self.headline(scores)}'
    )


def _has_memory(config) -> bool:
  options, _ = models.MODELS[config.model.name]
  return hasattr(options, 'memory_shapes')


def _memory_shapes(
  config, num_examples: int, length: int | None = None
) -> dict[str, Any]:
  """Shapes of the memory of `length` entries; empty without memory."""
  if not _has_memory(config):
    return {}
  return models.options(config.model).memory_shapes(num_examples, length)


def _check_windows(config, lengths: Mapping[str, int | None]) -> None:
  """Refuses settings that do not suit a model without memory."""
  max_length = config.model.get('max_length')
  if max_length is None:
    raise ValueError(
      'task=language_modeling needs a model of running text, such as decoder; '
      f'model.name={config.model.name!r}'
    )
  for name, length in lengths.items():
    if length is not None and length > max_length:
      raise ValueError(
        f'{name}={length} is longer than model.max_length={max_length}; '
        'shorten the windows or raise it'
      )
  for name in ('memory_length', 'clamp_length'):
    value = config.evaluation[name]
    if value is not None:
      raise ValueError(
        f'evaluation.{name}={value} is for models with memory, and '
        f'model.name={config.model.name!r} has none; leave it None'
      )
