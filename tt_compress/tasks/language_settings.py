"""The settings of language modeling: defaults, limits, and the tiny variant."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from tt_compress import models
from tt_compress.data import batching, vocabularies
from tt_compress.tasks.decoding import sampler

# Options of `read` that an evaluation may have of its own.
_READING = 'clamp_length', 'same_length'
# Rows of the embedding of a tiny variant.
_TINY_VOCABULARY = 1024


def defaults() -> dict:
  """See `base.Task.defaults`."""
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
      # Of a model with memory, the entries that it remembers, the greatest
      # distance that it tells apart, and whether every position attends to as
      # many positions as there are entries; None takes its own.
      memory_length=config_dict.placeholder(int),
      clamp_length=config_dict.placeholder(int),
      same_length=config_dict.placeholder(bool),
      # Largest number of tokens that a validation during training and the
      # final evaluation score, in evenly spaced windows or at the beginnings of
      # streams; None scores all.
      max_tokens=config_dict.placeholder(int),
      final_tokens=config_dict.placeholder(int),
      metric='loss',
    ),
    # How `--mode=predict` continues lines.
    sampling=sampler.defaults(),
  )


def has_memory(config) -> bool:
  """Whether the options of the model have `memory_shapes`."""
  options, _ = models.MODELS[config.model.name]
  return hasattr(options, 'memory_shapes')


def reading(config) -> dict[str, Any]:
  """Options of the model's `read` in evaluations, besides its own ones."""
  options = {name: config.evaluation[name] for name in _READING}
  return {name: value for name, value in options.items() if value is not None}


def memory_shapes(
  config, num_examples: int, length: int | None = None
) -> dict[str, Any]:
  """Shapes of the memory of the model; empty for one without memory.

  Args:
    config: of the run.
    num_examples: streams.
    length: entries; None for those of the model.
  """
  if not has_memory(config):
    return {}
  return models.options(config.model).memory_shapes(num_examples, length)


def batch_shapes(
  config, batch_multiple: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """See `base.Task.batch_shapes`."""
  data = config.data
  number = batching.filled(data.batch_size, batch_multiple)
  shape = number, data.window
  shapes = {
    'inputs': jax.ShapeDtypeStruct(shape, jnp.int32),
    'targets': jax.ShapeDtypeStruct(shape, jnp.int32),
    'weights': jax.ShapeDtypeStruct(shape, jnp.float32),
    'positions': jax.ShapeDtypeStruct((number,), jnp.int32),
  }
  if has_memory(config):
    shapes['starts'] = jax.ShapeDtypeStruct((number,), jnp.bool)
  return shapes


def check(config) -> None:
  """Refuses settings that would fail or mislead only after training.

  Raises:
    ValueError: naming the setting and its value.
  """
  data, scored = config.data, config.evaluation
  vocabularies.check(data.vocabulary, data.vocabulary_options)
  sampler.check(config.sampling)
  lengths = {'data.window': data.window, 'evaluation.window': scored.window}
  if not has_memory(config):
    _check_without_memory(config, lengths)
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
  own = config.model.get('same_length')
  if scored.memory_length == 0 and reading(config).get('same_length', own):
    raise ValueError(
      'same_length=True needs a memory, and evaluation.memory_length=0: each '
      'position attends to as many positions as the memory has; raise it, or '
      'set evaluation.same_length=False'
    )


def check_lines(config) -> None:
  """Refuses to continue lines by a model whose memory has no entries.

  Raises:
    ValueError: naming the setting.
  """
  if config.evaluation.memory_length == 0:
    raise ValueError(
      'evaluation.memory_length=0: lines are continued token by token, and '
      'each token would see none before it; set it to at least 1'
    )


def _check_without_memory(config, lengths: Mapping[str, int | None]) -> None:
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
  for name in ('memory_length', *_READING):
    value = config.evaluation[name]
    if value is not None:
      raise ValueError(
        f'evaluation.{name}={value} is for models with memory, and '
        f'model.name={config.model.name!r} has none; leave it None'
      )


def shrink(config) -> None:
  """See `base.Task.shrink`."""
  config.data.update(source='embedded', window=32, batch_size=16)
  # `update` would keep those of another source.
  config.data.options = dict(num_train=2000)
  vocab_size = min(config.model.vocab_size, _TINY_VOCABULARY)
  scale = vocab_size / config.model.vocab_size
  sizes = dict(
    vocab_size=vocab_size,
    cutoffs=tuple(int(c * scale) for c in config.model.get('cutoffs', ())),
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
  config.evaluation.update(
    window=None,
    memory_length=None,
    clamp_length=None,
    max_tokens=4096,
    final_tokens=4096,
  )
  config.sampling.max_tokens = 16
