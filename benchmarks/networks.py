"""Transformers to compare with their dense twins, and their training step."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks import layer_cases
from tt_compress import configuration, tasks
from tt_compress.data import corpus
from tt_compress.parallel import sharding
from tt_compress.training import build, carry, lazy, optimizers, step

_NARROW, _WIDE = (2, 4, 8, 4, 2), (4, 4, 8, 4, 4)
_FFN = dict(name='tensor_train', tt_rank=2, bias=False)
# As in row slides-N1: all feed-forward layers in tensor trains.
FEED_FORWARD = (
  ('.*/ffn/up', dict(_FFN, row_modes=_NARROW, col_modes=_WIDE)),
  ('.*/ffn/down', dict(_FFN, row_modes=_WIDE, col_modes=_NARROW)),
)
TABLES = (('embed|logits', dict(name='tensor_train', tt_rank=16)),)
# As in row slides-N6.
_TUCKER = dict(name='tucker', tucker_rank=2, bias=False)
TUCKER = (
  ('.*/ffn/up', dict(_TUCKER, row_modes=_NARROW, col_modes=_WIDE)),
  ('.*/ffn/down', dict(_TUCKER, row_modes=_WIDE, col_modes=_NARROW)),
)
# As in row dissertation-T4-shapeshifter-16-256.
SHAPESHIFTER = (
  ('(en|de)coder/.*', dict(name='kronecker', rank=16)),
  ('embed', dict(name='kronecker', rank=256)),
)
_LENGTH = 64


@dataclasses.dataclass(frozen=True)
class Case:
  """A compressed configuration, to compare with its dense twin.

  Attributes:
    text: for a table.
    config: of the run.
    goals: {kind of time: goal}.
  """

  text: str
  config: ml_collections.ConfigDict
  goals: Mapping[str, float]

  def pair(self) -> dict[str, ml_collections.ConfigDict]:
    """The configurations of 'ours' and of the 'dense' twin."""
    return {'dense': configuration.twin(self.config), 'ours': self.config}


def transformer(
  compress: Sequence, layers: int = 6, *, tiny: bool = False, **model
) -> ml_collections.ConfigDict:
  """A configuration of a Transformer 512/2048, 4,096 target tokens per batch.

  Args:
    compress: rules. If one names `logits`, logits are not tied to the
      embedding, as in "Tensorized Embedding Layers for Efficient Model
      Compression"; those of the dense twin are always tied.
    layers: number in the encoder and in the decoder.
    tiny: whether to shrink model and batches.
    **model: further settings of the model.
  """
  arguments = configuration.parse('tiny' if tiny else '')
  config = configuration.defaults('benchmark', arguments)
  config.data.update(bucket_lengths=(_LENGTH,), batch_tokens=64 * _LENGTH)
  config.model.update(
    num_encoder_layers=layers,
    num_decoder_layers=layers,
    tie_logits=not any('logits' in pattern for pattern, _ in compress),
    **model,
  )
  config.compress = tuple(compress)
  config.dense = dict(tie_logits=True)
  return configuration.finish(config, arguments)


def cases(
  goals: Mapping[str, float], layers: Sequence[int] = (6,), **options
) -> tuple[Case, ...]:
  """Transformers with tensor trains in feed-forward layers, and in embeddings.

  Args:
    goals: {kind of time: goal}, the same for all.
    layers: numbers in the encoder and in the decoder.
    **options: of `transformer`.
  """
  kinds = {
    'TT feed-forward': FEED_FORWARD,
    'TT feed-forward and embeddings': FEED_FORWARD + TABLES,
  }
  return tuple(
    Case(
      f'{kind}, {count}+{count} layers',
      transformer(rules, count, **options),
      goals,
    )
    for count in layers
    for kind, rules in kinds.items()
  )


@dataclasses.dataclass(frozen=True)
class Training:
  """The training step of a configuration, its first state and a batch.

  Attributes:
    update: (state, batch) -> (state, metrics), compiled at the first call.
    start: returns the first state.
    batch: synthetic, without padding.
  """

  update: jax.stages.Wrapped
  start: Callable[[], dict]
  batch: dict[str, Any]


def training(
  config: ml_collections.ConfigDict,
  batch: Mapping[str, np.ndarray] | None = None,
) -> Training:
  """The training step of `run.Run`.

  Args:
    config: of the run.
    batch: of every step; None for sentences of random ids by Zipf's law.
  """
  blueprint = build.blueprint(config)
  optimizer, _ = optimizers.of_run(config, blueprint)
  mesh = sharding.make_mesh()
  task = tasks.TASKS[config.task](config, blueprint.graphdef, None)
  update = step.make_step(
    blueprint.graphdef,
    task.loss,
    optimizer,
    mesh,
    seed=config.seed,
    num_examples=1.0,  # It scales penalties; these models have none.
    tables=lazy.tables(config.optimizer, blueprint),
    tokens=task.batch_rows(config),
  )

  def start():
    variables = build.initialize(config, sharding.replicated(mesh))
    memory = carry.in_memory(config, mesh)
    return step.initial_state(variables, optimizer, mesh, carry=memory)

  batch = _batch(config) if batch is None else batch
  return Training(update, start, sharding.put(batch, mesh))


def _batch(config):
  length = max(config.data.bucket_lengths)
  shape = 2, config.data.batch_tokens // length, length
  words = config.model.vocab_size - corpus.UNK_ID - 1
  ids = layer_cases.ids('zipf', words, np.prod(shape))
  inputs, targets = (ids + corpus.UNK_ID + 1).reshape(shape)
  positions = np.arange(len(inputs), dtype=np.int32)
  return {'inputs': inputs, 'targets': targets, 'positions': positions}


def changed(
  config: ml_collections.ConfigDict, **model
) -> ml_collections.ConfigDict:
  """A copy with other settings of the model."""
  config = copy.deepcopy(config)
  config.model.update(model)
  return config
