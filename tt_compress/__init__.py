"""Compressed matrices for Flax NNX models: tensor trains and their relatives.

A parameterization writes one matrix W [rows, cols] with fewer numbers than
rows * cols. `make` chooses it by name, and `REGISTRY` has all names:

  >>> import jax
  >>> import tt_compress
  >>> spec = tt_compress.make('tensor_train', rows=1024, cols=256, tt_rank=8)
  >>> spec.row_modes, spec.col_modes, spec.num_params
  ((8, 8, 16), (4, 8, 8), 5376)
  >>> factors = spec.init(jax.random.key(0), std=0.1)
  >>> spec.take(factors, jax.numpy.array([3, 141])).shape  # W[ids]
  (2, 256)
  >>> spec.apply(factors, jax.numpy.ones((5, 1024))).shape  # x W
  (5, 256)

A rank may be a share of the dense parameters, or follow from a size:

  >>> tt_compress.make('tensor_train', 1024, 256, rank=0.1).tt_rank
  (1, 19, 19, 1)
  >>> tt_compress.make('low_rank', 1024, 256, compression_ratio=10).rank
  20

`compress` replaces matrices of any Flax NNX model by rules, pairs of a pattern
for their paths and the options of `make`. With `fit=True`, the new matrices
approximate the present ones; otherwise they are random. With
`fit=Calibration(batches)`, products with what these batches multiply them with
are approximated instead; with `fit=LayerByLayer(batches)`, in the order of use,
with what the compressed model multiplies them with.

  >>> from flax import nnx
  >>> rngs = nnx.Rngs(0)
  >>> model = nnx.Sequential(
  ...   nnx.Embed(1024, 64, rngs=rngs), nnx.Linear(64, 256, rngs=rngs)
  ... )
  >>> rules = [('layers/0', dict(name='tensor_train', tt_rank=8))]
  >>> print(tt_compress.compress(model, rules, rngs))
  layers/0: 1024 x 64 in 2,816 numbers, ratio 23.27
  layers/1: kept
  >>> model(jax.numpy.array([3, 141])).shape
  (2, 256)

`explain` shows all matrices of a model, and what rules cannot reach:

  >>> print(tt_compress.explain(model))  # doctest: +ELLIPSIS
  matrix      layer   shape      params  share  ratio  form
  layers/0    Embed   1024 x 64   2,816  14.5%  23.27  TensorTrain(...
  layers/1    Linear  64 x 256   16,384  84.2%   1.00  dense
  all others                        256
  total                          19,456

`expand` replaces them by the dense matrices that they stand for:

  >>> tt_compress.expand(model)
  >>> model.layers[0].spec
  Dense(rows=1024, cols=64)

`Linear` and `Embed` are the layers that `compress` puts in place, for models of
your own. `Run` trains, evaluates and serves the configuration that
`load_config` reads, as `python -m tt_compress.main` does:

  config = tt_compress.load_config('configs/quickstart.py:tiny')
  run = tt_compress.Run(config, workdir='runs/quickstart')
"""

from typing import Any

from tt_compress import lazy

__version__ = '0.1.0'

__all__ = [
  'REGISTRY',
  'Calibration',
  'Embed',
  'LayerByLayer',
  'Linear',
  'Run',
  '__version__',
  'compress',
  'expand',
  'explain',
  'load_config',
  'make',
]

_PLACES = {
  'REGISTRY': ('parameterizations', 'REGISTRY'),
  'Calibration': ('nn.calibration', 'Calibration'),
  'Embed': ('nn.embed', 'Embed'),
  'LayerByLayer': ('nn.layer_by_layer', 'LayerByLayer'),
  'Linear': ('nn.linear', 'Linear'),
  'Run': ('training.run', 'Run'),
  'compress': ('nn.compress', 'compress'),
  'expand': ('nn.serving', 'expand'),
  'explain': ('nn.explain', 'explain'),
  'load_config': ('configuration', 'load'),
  'make': ('parameterizations', 'make'),
}


def __getattr__(name: str) -> Any:
  # At first use: importing JAX, Flax and the training loop takes seconds, and
  # the name of a submodule alone must not.
  return lazy.attribute(__name__, _PLACES, name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
