"""Classification of images: batches, loss and evaluation."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from tt_compress.algebra import cross_entropy
from tt_compress.data import batching, images
from tt_compress.nn import modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, losses


class Classification(base.Task):
  """The problem of a run that says which class an image belongs to.

  Raises:
    ValueError: label smoothing or a scale of the pixels out of range, or a
      model of another kind.
  """

  metrics = {'accuracy': 'max', 'loss': 'min'}
  unit = 'images'
  reporting = ('evaluation.batch_size',)
  inputs = ('data.mean', 'data.std')

  def __init__(self, config, graphdef, workdir):
    super().__init__(config, graphdef, workdir)
    losses.check_smoothing(config.label_smoothing)
    if not config.data.std > 0:
      raise ValueError(f'data.std={config.data.std} must be positive')
    if config.data.batch_size < 1:
      raise ValueError(
        f'data.batch_size={config.data.batch_size} must be at least 1'
      )
    if config.model.get('sizes') is None:
      raise ValueError(
        f'task=classification needs a model of features, such as mlp; '
        f'model.name={config.model.name!r}'
      )
    self._sums = evaluation.over_devices(self._batch_sums)

  @classmethod
  def defaults(cls):
    return dict(
      data=dict(
        source='mnist',  # a name in data.images.SOURCES
        # Folder of that source, where it has one.
        path=config_dict.placeholder(str),
        options={},  # further ones
        batch_size=100,
        # Pixels enter the model as (value / 255 - mean) / std.
        mean=0.0,
        std=1.0,
      ),
      label_smoothing=0.0,
      evaluation=dict(
        every=1000,  # steps
        batch_size=1000,
        # The best checkpoint has the highest 'accuracy' or the lowest 'loss'.
        metric='accuracy',
      ),
    )

  @classmethod
  def batch_shapes(cls, config, batch_multiple):
    rows = batching.filled(config.data.batch_size, batch_multiple)
    pixels = config.model.sizes[0]
    return {
      'images': jax.ShapeDtypeStruct((rows, pixels), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((rows,), jnp.int32),
      'weights': jax.ShapeDtypeStruct((rows,), jnp.float32),
      'positions': jax.ShapeDtypeStruct((rows,), jnp.int32),
    }

  @classmethod
  def shrink(cls, config):
    config.data.source = 'generated'
    config.data.path = None
    config.data.options = {}
    first, *hidden, last = config.model.sizes
    config.model.sizes = (first, *(min(64, size) for size in hidden), last)

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def images(self, split: str) -> images.Images:
    """The labeled images of 'train', 'validation' or 'test'."""
    data = self._config.data
    options = dict(data.options)
    if data.get('path') is not None:
      options['path'] = data.path
    return images.load(data.source, split, **options)

  def prepare(self):
    sizes = self._config.model.sizes
    for split in ('train', 'validation', 'test'):
      found = self.images(split)
      pixels = int(np.prod(found.shape))
      if pixels != sizes[0]:
        raise ValueError(
          f'{found.name}: images of {found.shape} have {pixels} pixels, but '
          f'model.sizes={tuple(sizes)} begins with {sizes[0]}'
        )
      if found.labels.max() >= sizes[-1]:
        raise ValueError(
          f'{found.name}: label {found.labels.max()} needs more classes than '
          f'the {sizes[-1]} at the end of model.sizes={tuple(sizes)}'
        )
    train = self.images('train')
    return {
      'is_stand_in': train.is_stand_in,
      'num_images': len(train),
      'train_sha256': train.digest,
    }

  def _batches(self, split, batch_size, **options) -> batching.Batches:
    found = self.images(split)
    return batching.of_arrays(
      {'images': found.images, 'labels': found.labels},
      batch_size=batch_size,
      **options,
    )

  def train_batches(self, **share):
    config = self._config
    return self._batches(
      'train', config.data.batch_size, seed=config.seed, **share
    )

  @property
  def num_examples(self):
    return len(self.images('train'))

  def logits(self, model, pixels: jax.Array, noise=None) -> jax.Array:
    """Logits [batch, classes] of uint8 pixels [batch, ...]."""
    data = self._config.data
    x = pixels.reshape(len(pixels), -1).astype(jnp.float32) / 255
    return model((x - data.mean) / data.std, noise)

  def loss(self, model, batch, noise=None, carry=None):
    found = cross_entropy.of_logits(
      self.logits(model, batch['images'], noise),
      batch['labels'],
      self._config.label_smoothing,
    )
    weights = batch['weights']
    return jnp.sum(found * weights), jnp.sum(weights), carry

  def _batch_sums(self, variables, batch):
    """Sums over a batch, each [1]: cross-entropy, right answers, images."""
    model = modules.merge(self._graphdef, **variables)
    logits = self.logits(model, batch['images'])
    labels, weights = batch['labels'], batch['weights']
    found = cross_entropy.of_logits(logits, labels, 0.0)
    is_right = jnp.argmax(logits, axis=-1) == labels
    return tuple(
      jnp.sum(x * weights, keepdims=True) for x in (found, is_right, 1)
    )

  def validate(self, variables):
    scores = self.evaluate(variables, 'validation')
    return {name: scores[name] for name in self.metrics}

  def evaluate(self, variables: Mapping, split: str):
    """Scores of a split.

    Returns:
      'loss' (nats an image, without label smoothing), 'accuracy' from 0 to 1,
      'num_images' and 'data', their name.
    """
    batches = self._batches(
      split, self._config.evaluation.batch_size, shuffle=False
    )
    sums = [
      self._sums(variables, batches.batch(step))
      for step in range(batches.steps_per_epoch)
    ]
    loss, right, number = np.sum(
      np.asarray(jax.device_get(sums), np.float64), axis=(0, 2)
    )
    return {
      'loss': float(loss / number),
      'accuracy': float(right / number),
      'num_images': int(number),
      'data': self.images(split).name,
    }

  def progress(self, scores):
    return (
      f'validation loss {scores["loss"]:.4f}  accuracy {scores["accuracy"]:.4f}'
    )

  def headline(self, scores):
    return f'accuracy = {scores["accuracy"]:.4f}'

  def report(self, split, scores):
    return (
      f'\n{split} loss {scores["loss"]:.4f}  {scores["num_images"]:,} images, '
      f'{scores["data"]}\n{self.headline(scores)}'
    )
