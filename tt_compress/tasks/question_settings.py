"""The settings of question answering: defaults, limits, the tiny variant."""

import jax
import jax.numpy as jnp

from tt_compress.data import batching

# Of each word of a context: whether the question has it as spelled, and in any
# case, and its share of the context.
NUM_FEATURES = 3


def defaults() -> dict:
  """See `base.Task.defaults`."""
  return dict(
    data=dict(
      # A name in data.sources.SOURCES['questions'], and its options.
      source='question_files',
      options={},
      batch_size=32,
      # Words of a context that batches are padded to; training leaves out
      # longer contexts.
      bucket_lengths=(128, 192, 256, 400),
      # Words of a question; more are cut.
      max_question_length=40,
      vocabulary='words',
      vocabulary_options=dict(
        specials=('<pad>', '<unk>'), pattern=r'\w+|[^\w\s]', lower_case=False
      ),
    ),
    model=dict(num_features=NUM_FEATURES),
    evaluation=dict(
      every=1000,  # steps
      batch_size=64,
      max_answer_length=15,  # words
      # The best checkpoint has the highest 'f1' or 'exact_match', or the
      # lowest 'loss'.
      metric='f1',
    ),
  )


def check(config) -> None:
  """Refuses settings that do not fit.

  Raises:
    ValueError: a setting is out of range, the model is no reader, or the
      vocabulary does not say where a word is.
  """
  if config.model.get('num_features') != NUM_FEATURES:
    raise ValueError(
      f'task=question_answering needs a reader with model.num_features='
      f'{NUM_FEATURES}; model.name={config.model.name!r} has '
      f'{config.model.get("num_features")}'
    )
  for name, value in (
    ('data.batch_size', config.data.batch_size),
    ('data.max_question_length', config.data.max_question_length),
    ('evaluation.max_answer_length', config.evaluation.max_answer_length),
  ):
    if value < 1:
      raise ValueError(f'{name}={value} must be at least 1')
  options = config.data.vocabulary_options
  if config.data.vocabulary != 'words' or any(
    options.get(name) for name in ('markup', 'tokenizer')
  ):
    raise ValueError(
      f'data.vocabulary={config.data.vocabulary!r} with '
      f'{dict(options)} does not say where a word is in a text; '
      "task=question_answering needs 'words' without markup and tokenizer"
    )


def batch_shapes(
  config, batch_multiple: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """See `base.Task.batch_shapes`."""
  number = batching.filled(config.data.batch_size, batch_multiple)
  shape = lambda *sizes: jax.ShapeDtypeStruct((number, *sizes), jnp.int32)
  context = shape(max(config.data.bucket_lengths))
  return {
    'inputs': context,
    'matches': context,
    'counts': context,
    'asked': shape(config.data.max_question_length),
    'first': shape(),
    'last': shape(),
    'questions': shape(),
    'weights': jax.ShapeDtypeStruct((number,), jnp.float32),
    'positions': shape(),
  }


def shrink(config) -> None:
  """See `base.Task.shrink`."""
  config.data.update(
    source='generated',
    batch_size=min(32, config.data.batch_size),
    bucket_lengths=(40, 80),
    max_question_length=12,
  )
  config.data.options = {}
  config.model.update(
    vocab_size=100, embed_dim=32, hidden_dim=16, num_layers=2, dropout=0.1
  )
