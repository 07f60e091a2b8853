"""Language modeling: windows of a running text, loss and perplexity."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import config_dict

from tt_compress.data import batching, token_streams, vocabularies
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, run_vocabulary


class LanguageModeling(base.Task):
  """Prediction of the next token in windows of a text.

  Windows are independent: the first token of a window predicts the second one
  without the text before.

  Attributes:
    tokens: vocabulary of the text.
  """

  kind = 'token streams'
  unit = 'tokens'
  reporting = ('evaluation.batch_size', 'evaluation.final_tokens')
  inputs = ('data.vocabulary',)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    self.tokens = run_vocabulary.RunVocabulary(
      workdir,
      lambda: self.load('train').lines,
      name=config.data.vocabulary,
      options=config.data.vocabulary_options,
      model=config.model,
    )
    self._loss = evaluation.over_devices(self._batch_loss)

  @classmethod
  def defaults(cls) -> dict:
    return dict(
      data=dict(
        source='embedded',  # a name in data.sources.SOURCES['token streams']
        options={},  # of that source
        vocabulary='bytes',  # a name in data.vocabularies.VOCABULARIES
        vocabulary_options={},  # of that vocabulary
        window=128,  # tokens
        batch_size=16,  # windows
      ),
      model=dict(vocab_size=256),
      evaluation=dict(
        every=500,  # steps
        batch_size=32,  # windows
        # Largest number of tokens that a validation during training and the
        # final evaluation score, in evenly spaced windows; None scores all.
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
    return {
      'inputs': jax.ShapeDtypeStruct(shape, jnp.int32),
      'targets': jax.ShapeDtypeStruct(shape, jnp.int32),
      'weights': jax.ShapeDtypeStruct(shape, jnp.float32),
      'positions': jax.ShapeDtypeStruct((number,), jnp.int32),
    }

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    data, max_length = config.data, config.model.get('max_length')
    vocabularies.check(data.vocabulary, data.vocabulary_options)
    if max_length is None:
      raise ValueError(
        'task=language_modeling needs a model of running text, such as '
        f'decoder; model.name={config.model.name!r}'
      )
    if data.window > max_length:
      raise ValueError(
        f'data.window={data.window} is longer than model.max_length='
        f'{max_length}; shorten the windows or raise it'
      )
    sizes = {
      'data.window': data.window,
      'data.batch_size': data.batch_size,
      'evaluation.max_tokens': config.evaluation.max_tokens,
      'evaluation.final_tokens': config.evaluation.final_tokens,
    }
    for name, size in sizes.items():
      if size is not None and size < 1:
        raise ValueError(f'{name}={size} must be at least 1')

  @classmethod
  def shrink(cls, config) -> None:
    config.data.update(source='embedded', window=32, batch_size=16)
    # `update` would keep those of another source.
    config.data.options = dict(num_train=2000)
    config.model.update(
      max_length=32, model_dim=64, ffn_dim=128, num_heads=4, num_layers=1
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
    self, split: str, batch_size: int, **options: Any
  ) -> batching.Batches:
    vocabulary = self.tokens.value
    return token_streams.windows(
      vocabulary.encode(self.load(split).lines),
      end_id=vocabulary.eos_id,
      batch_size=batch_size,
      length=self._config.data.window,
      **options,
    )

  def train_batches(self, **share: int) -> batching.Batches:
    """Windows of the training text in random order.

    Args:
      **share: `batch_multiple`, `process_index`, `process_count` of `Batches`.
    """
    config = self._config
    return self._batches(
      'train', config.data.batch_size, seed=config.seed, **share
    )

  @functools.lru_cache(maxsize=4)  # noqa: B019 - a task lives as long as a run
  def _split_batches(
    self, split: str, max_tokens: int | None
  ) -> batching.Batches:
    """Windows of a split in order, those that are scored."""
    return self._batches(
      split,
      self._config.evaluation.batch_size,
      max_tokens=max_tokens,
      shuffle=False,
    )

  @functools.cached_property
  def num_examples(self) -> int:
    """Tokens of the training text that are predicted, ends included."""
    encoded = self.tokens.value.encode(self.load('train').lines)
    ends = 0 if self.tokens.value.eos_id is None else len(encoded)
    return sum(map(len, encoded)) + ends - 1

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Sum of the loss over tokens, their number, and the carry.

    Args:
      model: has `features` of tokens and their `cross_entropy`, as a `Decoder`.
      batch: see `token_streams.windows`.
      noise: keys of the dropout; None means deterministic.
      carry: returned unchanged; windows are independent.
    """
    x = model.features(batch['inputs'], noise)
    total = model.cross_entropy(
      x, batch['targets'], batch['weights'], noise=noise
    )
    return total, jnp.sum(batch['weights']), carry

  def _batch_loss(
    self, variables: Mapping, batch: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    model = modules.merge(self._graphdef, **variables)
    total, weight, _ = self.loss(model, batch)
    return jnp.reshape(total, 1), jnp.reshape(weight, 1)

  def _scores(
    self, variables: Mapping, split: str, max_tokens: int | None
  ) -> base.Scores:
    batches = self._split_batches(split, max_tokens)
    sums = [
      self._loss(variables, batches.batch(step))
      for step in range(batches.steps_per_epoch)
    ]
    total, number = np.sum(
      np.asarray(jax.device_get(sums), np.float64), axis=(0, 2)
    )
    loss = total / number
    with np.errstate(over='ignore'):
      scores = {'loss': float(loss), 'perplexity': float(np.exp(loss))}
    if self._config.data.vocabulary == 'bytes':
      scores['bits_per_byte'] = float(loss / np.log(2))
    name = self.load(split).name
    return {**scores, 'num_tokens': int(number), 'data': name}

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
