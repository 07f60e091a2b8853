"""Prediction of clicks: log loss, order and calibration."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Float, Num

from tt_compress.data import batching
from tt_compress.data.click_logs import click_log
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base
from tt_compress.tasks.scores import ranking


class ClickThrough(base.Task):
  """A task that predicts the probability of a click from categorical features.

  The model returns a logit x per example; the loss of a label y is
  -y log(p) - (1 - y) log(1 - p) with p = 1 / (1 + exp(-x)).

  Raises:
    ValueError: a batch size is out of range.
  """

  kind = 'click logs'
  called_with = ('ids',)
  metrics = {'loss': 'min', 'auc': 'max'}
  reporting = ('evaluation.batch_size',)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    if config.data.batch_size < 1:
      raise ValueError(
        f'data.batch_size={config.data.batch_size} must be at least 1'
      )
    self._logits = evaluation.over_devices(self._logits_of_batch)

  @classmethod
  def defaults(cls) -> dict:
    return dict(
      data=dict(
        batch_size=2048,
        # A name in data.sources.SOURCES['click logs'], and its options.
        source='click_log_files',
        options={},
      ),
      evaluation=dict(
        every=5000,  # steps
        batch_size=8192,
        # The best checkpoint has the lowest 'loss' or the highest 'auc'.
        metric='loss',
      ),
    )

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    number = batching.filled(config.data.batch_size, batch_multiple)
    shape = lambda dtype, *sizes: jax.ShapeDtypeStruct((number, *sizes), dtype)
    return {
      'ids': shape(jnp.int32, len(config.model.cardinalities)),
      'labels': shape(jnp.uint8),
      'weights': shape(jnp.float32),
      'positions': shape(jnp.int32),
    }

  @classmethod
  def shrink(cls, config) -> None:
    large = config.model.large
    is_large = lambda n: large is not None and n > large
    config.model.update(
      cardinalities=tuple(
        300 if is_large(n) else min(n, 40) for n in config.model.cardinalities
      ),
      large=None if large is None else 40,
      hidden=(64, 64),
    )
    config.data.update(source='generated', batch_size=256)
    config.data.options = dict(cardinalities=config.model.cardinalities)

  def load(self, split: str) -> click_log.ClickLog:
    found = super().load(split)
    rows, sizes = tuple(self._config.model.cardinalities), found.cardinalities
    if len(rows) != len(sizes) or np.any(np.greater(sizes, rows)):
      raise ValueError(
        f'{found.name}: features of {sizes} ids do not fit in '
        f'model.cardinalities={rows}; set it to the first, or give fewer ids '
        'by data.options.modulus or data.options.min_count'
      )
    return found

  def prepare(self) -> dict:
    splits = {s: self.load(s) for s in ('train', 'validation', 'test')}
    train, rows = splits['train'], tuple(self._config.model.cardinalities)
    if train.cardinalities != rows:
      logging.warning(
        'the data have fewer ids, %s, than model.cardinalities=%s',
        train.cardinalities,
        rows,
      )
    return {
      'num_examples': len(train),
      'train_sha256': train.digest,
      'unseen': {split: found.unseen for split, found in splits.items()},
    }

  def _batches(
    self, split: str, batch_size: int, **options: Any
  ) -> batching.Batches:
    found = self.load(split)
    return batching.of_arrays(
      {'ids': found.ids, 'labels': found.labels},
      batch_size=batch_size,
      **options,
    )

  def train_batches(self, **share: int) -> batching.Batches:
    config = self._config
    return self._batches(
      'train', config.data.batch_size, seed=config.seed, **share
    )

  @property
  def num_examples(self) -> int:
    return len(self.load('train'))

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    losses = log_losses(model(batch['ids'], noise), batch['labels'], jnp)
    weights = batch['weights']
    return jnp.sum(losses * weights), jnp.sum(weights), carry

  def _logits_of_batch(self, variables, batch):
    return modules.merge(self._graphdef, **variables)(batch['ids'])

  def logits(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' examples']:
    """The logit of every example of a split."""
    size = self._config.evaluation.batch_size
    batches = self._batches(split, size, shuffle=False)
    # Devices may pad each batch behind its examples.
    found = [
      self._logits(variables, batches.batch(step))[:size]
      for step in range(batches.steps_per_epoch)
    ]
    number = len(self.load(split))
    return np.concatenate(jax.device_get(found))[:number].astype(np.float64)

  def example_losses(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' examples']:
    logits, labels = self.logits(variables, split), self.load(split).labels
    return log_losses(logits, labels, np)

  def validate(self, variables: Mapping) -> dict[str, float]:
    scores = self.evaluate(variables, 'validation')
    return {name: scores[name] for name in self.metrics}

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split.

    Returns:
      'loss' (log loss in nats per example), 'auc' from 0 to 1, 'calibration'
      (predicted clicks / clicks), 'num_examples' and 'data', its name.
    """
    logits, labels = self.logits(variables, split), self.load(split).labels
    clicks = np.sum(labels, dtype=np.int64)
    predicted = np.sum(1 / (1 + np.exp(-logits)))
    return {
      'loss': float(np.mean(log_losses(logits, labels, np))),
      'auc': ranking.auc(logits, labels == 1),
      'calibration': float(predicted / clicks) if clicks else float('nan'),
      'num_examples': len(labels),
      'data': self.load(split).name,
    }

  def headline(self, scores: base.Scores) -> str:
    return f'log loss = {scores["loss"]:.4f}'

  def report(self, split: str, scores: base.Scores) -> str:
    return (
      f'\n{split} AUC {scores["auc"]:.4f}  '
      f'calibration {scores["calibration"]:.3f}  '
      f'{scores["num_examples"]:,} examples, {scores["data"]}\n'
      f'{self.headline(scores)}'
    )


def log_losses(
  logits: Float[Array | np.ndarray, ' examples'],
  labels: Num[Array | np.ndarray, ' examples'],
  numpy: Any,
) -> Float[Array | np.ndarray, ' examples']:
  """log(1 + exp(x)) - y x for each logit x and label y, in `numpy` or `jnp`."""
  return numpy.logaddexp(0, logits) - labels * logits
