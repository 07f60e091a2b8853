"""Classification of any labeled examples: loss and evaluation."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from tt_compress.algebra import cross_entropy
from tt_compress.data import batching
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, losses


class Classification(base.Task):
  """A task that predicts the class of an example.

  A subclass defines `kind`, `defaults`, `batch_shapes`, `batches` and `logits`;
  its batches hold 'labels' and 'weights', [batch].

  Raises:
    ValueError: label smoothing or a batch size is out of range.
  """

  metrics = {'accuracy': 'max', 'loss': 'min'}
  reporting = ('evaluation.batch_size',)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    losses.check_smoothing(config.label_smoothing)
    if config.data.batch_size < 1:
      raise ValueError(
        f'data.batch_size={config.data.batch_size} must be at least 1'
      )
    self._evaluated: dict[str, batching.Batches] = {}
    self._sums = evaluation.over_devices(self._batch_sums)

  @classmethod
  def defaults(cls) -> dict:
    return dict(
      data=dict(batch_size=100),
      label_smoothing=0.0,
      evaluation=dict(
        every=1000,  # steps
        batch_size=1000,
        # The best checkpoint has the highest 'accuracy' or the lowest 'loss'.
        metric='accuracy',
      ),
    )

  def batches(
    self, split: str, batch_size: int, **options: Any
  ) -> batching.Batches:
    """Batches of a split.

    Args:
      split: 'train', 'validation' or 'test'.
      batch_size: examples in a global batch.
      **options: see `batching.Batches`.
    """
    raise NotImplementedError(f'{type(self).__name__} has no batches')

  def logits(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
  ) -> Float[Array, 'batch classes']:
    """A logit for each class; `noise` for training."""
    raise NotImplementedError(f'{type(self).__name__} has no logits')

  def check_examples(self, examples) -> None:
    """Refuses examples of a split that do not fit the model."""

  def prepare(self) -> dict:
    for split in ('train', 'validation', 'test'):
      self.check_examples(self.load(split))
    train = self.load('train')
    return {f'num_{self.unit}': len(train), 'train_sha256': train.digest}

  def train_batches(self, **share: int) -> batching.Batches:
    config = self._config
    return self.batches(
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
    found = cross_entropy.of_logits(
      self.logits(model, batch, noise),
      batch['labels'],
      self._config.label_smoothing,
    )
    weights = batch['weights']
    return jnp.sum(found * weights), jnp.sum(weights), carry

  def _batch_sums(
    self, variables: Mapping, batch: Mapping[str, jax.Array]
  ) -> tuple[Float[Array, '1'], ...]:
    """Sums over a batch: cross-entropy, correct answers, examples."""
    model = modules.merge(self._graphdef, **variables)
    logits = self.logits(model, batch)
    labels, weights = batch['labels'], batch['weights']
    found = cross_entropy.of_logits(logits, labels, 0.0)
    is_right = jnp.argmax(logits, axis=-1) == labels
    return tuple(
      jnp.sum(x * weights, keepdims=True) for x in (found, is_right, 1)
    )

  def validate(self, variables: Mapping) -> dict[str, float]:
    scores = self.evaluate(variables, 'validation')
    return {name: scores[name] for name in self.metrics}

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split.

    Returns:
      'loss' (nats per example, without label smoothing), 'accuracy' from 0 to
      1, 'num_' + unit (number of examples) and 'data', the name of the data.
    """
    if split not in self._evaluated:
      self._evaluated[split] = self.batches(
        split, self._config.evaluation.batch_size, shuffle=False
      )
    batches = self._evaluated[split]
    sums = [
      self._sums(variables, batches.batch(step))
      for step in range(batches.steps_per_epoch)
    ]
    loss, correct, number = np.sum(
      np.asarray(jax.device_get(sums), np.float64), axis=(0, 2)
    )
    return {
      'loss': float(loss / number),
      'accuracy': float(correct / number),
      f'num_{self.unit}': int(number),
      'data': self.load(split).name,
    }

  def progress(self, scores: base.Scores) -> str:
    return (
      f'validation loss {scores["loss"]:.4f}  accuracy {scores["accuracy"]:.4f}'
    )

  def headline(self, scores: base.Scores) -> str:
    return f'accuracy = {scores["accuracy"]:.4f}'

  def report(self, split: str, scores: base.Scores) -> str:
    return (
      f'\n{split} loss {scores["loss"]:.4f}  '
      f'{scores[f"num_{self.unit}"]:,} {self.unit}, {scores["data"]}\n'
      f'{self.headline(scores)}'
    )
