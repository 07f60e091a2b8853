"""Classification of images by a model of their pixels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from ml_collections import config_dict

from tt_compress.data import batching, images
from tt_compress.nn import dropout
from tt_compress.tasks import classification


class ImageClassification(classification.Classification):
  """A task that predicts the class of an image.

  Raises:
    ValueError: the scale of the pixels is not positive, or the model does not
      take features.
  """

  kind = 'labeled images'
  unit = 'images'
  inputs = ('data.mean', 'data.std')

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    if not config.data.std > 0:
      raise ValueError(f'data.std={config.data.std} must be positive')
    if config.model.get('sizes') is None:
      raise ValueError(
        f'task=classification needs a model of features, such as mlp; '
        f'model.name={config.model.name!r}'
      )

  @classmethod
  def defaults(cls) -> dict:
    settings = super().defaults()
    settings['data'].update(
      source='mnist',  # a name in data.sources.SOURCES['labeled images']
      # Folder of that source, where it has one.
      path=config_dict.placeholder(str),
      options={},  # further options of that source
      # Pixels enter the model as (value / 255 - mean) / std.
      mean=0.0,
      std=1.0,
    )
    return settings

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    number = batching.filled(config.data.batch_size, batch_multiple)
    pixels = config.model.sizes[0]
    return {
      'images': jax.ShapeDtypeStruct((number, pixels), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((number,), jnp.int32),
      'weights': jax.ShapeDtypeStruct((number,), jnp.float32),
      'positions': jax.ShapeDtypeStruct((number,), jnp.int32),
    }

  @classmethod
  def shrink(cls, config) -> None:
    config.data.source = 'generated'
    config.data.path = None
    config.data.options = {}
    first, *hidden, last = config.model.sizes
    config.model.sizes = (first, *(min(64, size) for size in hidden), last)

  @classmethod
  def source_options(cls, config) -> dict:
    path = config.data.get('path')
    return dict(config.data.options) | ({} if path is None else {'path': path})

  def check_examples(self, examples: images.Images) -> None:
    sizes = self._config.model.sizes
    pixels = int(np.prod(examples.shape))
    if pixels != sizes[0]:
      raise ValueError(
        f'{examples.name}: images of {examples.shape} have {pixels} pixels, '
        f'but model.sizes={tuple(sizes)} begins with {sizes[0]}'
      )
    if examples.labels.max() >= sizes[-1]:
      raise ValueError(
        f'{examples.name}: label {examples.labels.max()} needs more classes '
        f'than the {sizes[-1]} at the end of model.sizes={tuple(sizes)}'
      )

  def prepare(self) -> dict:
    is_stand_in = self.load('train').is_stand_in
    return {**super().prepare(), 'is_stand_in': is_stand_in}

  def batches(
    self, split: str, batch_size: int, **options: Any
  ) -> batching.Batches:
    found = self.load(split)
    return batching.of_arrays(
      {'images': found.images, 'labels': found.labels},
      batch_size=batch_size,
      **options,
    )

  def logits(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
  ) -> Float[Array, 'batch classes']:
    data, pixels = self._config.data, batch['images']
    x = pixels.reshape(len(pixels), -1).astype(jnp.float32) / 255
    return model((x - data.mean) / data.std, noise)
