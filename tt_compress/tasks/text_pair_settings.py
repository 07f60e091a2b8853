"""Settings of tasks of texts from texts: defaults, limits, tiny variant."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from tt_compress import models
from tt_compress.data import batching, vocabularies
from tt_compress.nn import cross_entropy


def defaults() -> dict:
  """Those that all such tasks share, see `base.Task.defaults`."""
  return dict(
    data=dict(
      source='embedded',  # a name in data.sources.SOURCES['pairs']
      options={},  # of that source
      # Padded lengths of batches, both sides, with the end token.
      bucket_lengths=(16, 32, 64, 129),
      # Padded length of targets that are much shorter than their sources, end
      # token included; None pads both sides to the length of the bucket.
      target_length=config_dict.placeholder(int),
      # A batch has batch_tokens // length pairs, which is the number of padded
      # target tokens.
      batch_tokens=4096,
      # Limits of training pairs, in tokens; other pairs are left out, counted
      # and logged.
      min_length=1,
      max_length=config_dict.placeholder(int),
      max_difference=config_dict.placeholder(int),
      max_ratio=config_dict.placeholder(float),
      vocabulary='sentencepiece',  # a name in data.vocabularies.VOCABULARIES
      vocabulary_options={},  # of that vocabulary
      # One vocabulary for both languages, or one for each, of
      # model.source_vocab_size and model.vocab_size.
      joint_vocabulary=True,
      # SentencePiece: characters that occur less often than this share become
      # unknown.
      character_coverage=1.0,
    ),
    model=dict(vocab_size=32_768),
    label_smoothing=0.1,
    # How the loss computes logits: None, in blocks of tokens where there are
    # many; 'all', at once; 'rows', in blocks of the vocabulary, which takes the
    # least memory and a third more time.
    logits_blocks=config_dict.placeholder(str),
    evaluation=dict(
      every=1000,  # steps
      batch_size=64,  # texts decoded together
      beam_size=4,
      # Largest size in bytes of the matrices that decoding materializes to be
      # faster; None sets no limit.
      expand_bytes=config_dict.placeholder(int),
      length_penalty=0.6,
      # An output for a source of n pieces ends after ratio * n + extra.
      max_ratio=1.5,
      max_extra=10,
      # Largest number of texts that a validation decodes.
      max_sentences=500,
      # Also report the loss of the training pairs in the end, as that of
      # validation: without dropout and label smoothing.
      train_loss=False,
      # Decode the test split a second time, and measure the seconds.
      timed=False,
      num_samples=3,
    ),
  )


def batch_shapes(
  config, batch_multiple: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """See `base.Task.batch_shapes`; a batch of the longest sentences."""
  length = max(config.data.bucket_lengths)
  number = batching.filled(
    batching.pairs_per_batch(length, config.data.batch_tokens),
    batch_multiple,
  )
  target_length = min(length, config.data.target_length or length)
  shapes = dict(inputs=(number, length), targets=(number, target_length))
  shapes['positions'] = (number,)
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.int32)
    for name, shape in shapes.items()
  }


def vocabulary_options(config) -> dict:
  """Options of the vocabularies of a run."""
  options = dict(config.data.vocabulary_options)
  if config.data.vocabulary == 'sentencepiece':
    options.setdefault('character_coverage', config.data.character_coverage)
  return options


def _check_vocabulary(config) -> None:
  vocabularies.check(config.data.vocabulary, vocabulary_options(config))
  size = config.model.get('vocab_size')
  source_size = config.model.get('source_vocab_size')
  if config.data.joint_vocabulary and source_size not in (None, size):
    raise ValueError(
      f'model.source_vocab_size={source_size} differs from '
      f'model.vocab_size={size}, but both languages share a vocabulary; set '
      'data.joint_vocabulary=False, or leave out model.source_vocab_size'
    )
  if config.model.get('padding_id'):
    raise ValueError(
      f'model.padding_id={config.model.padding_id} must be 0: the vocabularies '
      'of translation pad with token 0'
    )
  if not config.data.joint_vocabulary and source_size is None:
    raise ValueError(
      'data.joint_vocabulary=False needs model.source_vocab_size, the size of '
      'the vocabulary of the source language'
    )


def check(config) -> None:
  """Refuses settings that would fail or mislead only after training."""
  _check_vocabulary(config)
  target_length = config.data.target_length
  if target_length is not None and target_length < 2:
    raise ValueError(
      f'data.target_length={target_length} must be at least 2: a token and the '
      'end of a text; leave it out for the lengths of data.bucket_lengths'
    )
  cross_entropy.check_blocks(config.logits_blocks)
  least = dict(
    beam_size=1,
    length_penalty=0,
    max_sentences=1,
    num_samples=0,
    max_ratio=0,
    max_extra=1,
  )
  for name, bound in least.items():
    value = config.evaluation[name]
    if not value >= bound:  # NaN fails, too
      raise ValueError(f'evaluation.{name}={value} must be at least {bound}')


def shrink(config) -> None:
  """See `base.Task.shrink`."""
  config.data.update(
    source='embedded',
    bucket_lengths=(16, 32),
    batch_tokens=1024,
    min_length=1,
  )
  config.data.options = {}  # `update` would keep those of another source.
  if config.model.get('source_vocab_size') is not None:
    config.model.source_vocab_size = 800
  sizes = dict(
    vocab_size=800,
    model_dim=64,
    map_dim=32,
    embed_dim=64,
    hidden_dim=64,
    output_dim=64,
    ffn_dim=128,
    num_heads=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_layers=1,
    min_depth=2,
    max_depth=2,
  )
  options, _ = models.MODELS[config.model.name]
  known = {field.name for field in dataclasses.fields(options)}
  config.model.update({k: size for k, size in sizes.items() if k in known})
  config.evaluation.update(max_sentences=100, beam_size=2)
