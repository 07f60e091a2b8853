"""From a configuration to a model, abstract or initialized."""

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tt_compress import configuration, models
from tt_compress.algebra import context
from tt_compress.nn import compress, embed, modules

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Blueprint:
  """A model that is built but holds no arrays.

  Attributes:
    graphdef: its static part.
    params: shapes of the trained arrays.
    buffers: shapes of the others.
    report: what was compressed.
    matrices: the spec of every matrix, by path.
    tables: paths of those that ids are looked up in, or logits made with.
    partitions: by matrix, which axes of which of its arrays are split where a
      layer has several devices.
  """

  graphdef: nnx.GraphDef
  params: dict
  buffers: dict
  report: compress.Report
  matrices: dict[str, Any]
  tables: frozenset[str]
  partitions: dict[str, dict[str, int]]

  @property
  def variables(self) -> dict:
    """Shapes of all arrays, {'params', 'buffers'}."""
    return {'params': self.params, 'buffers': self.buffers}

  def settled_at(self, num_steps: int) -> int:
    """The step from which on checkpoints may be the best.

    Raises:
      ValueError: the schedule of a matrix ends after the run.
    """
    for path, spec in self.matrices.items():
      if spec.settled_at > num_steps:
        raise ValueError(
          f'{path}: the schedule of its {type(spec).__name__} ends at step '
          f'{spec.settled_at}, after num_steps={num_steps}; shorten it (see '
          'its options) or raise num_steps'
        )
    return max((spec.settled_at for spec in self.matrices.values()), default=0)


def activation_dtype(name: str):
  """The dtype of the activations; 'auto' depends on the backend.

  Raises:
    ValueError: for a name that is none of auto, float32, bfloat16.
  """
  if name == 'auto':
    name = 'float32' if context.current().backend == 'cpu' else 'bfloat16'
  if name not in DTYPES:
    raise ValueError(f'dtype={name!r} must be auto or one of {sorted(DTYPES)}')
  return DTYPES[name]


def machine(config) -> contextlib.AbstractContextManager:
  """Chooses contractions traced inside of it for the machine of a run."""
  given = {
    name: value for name, value in config.machine.items() if value is not None
  }
  return context.use(
    machine=dataclasses.replace(context.current().machine, **given)
  )


def build(config, rngs: nnx.Rngs) -> tuple[nnx.Module, compress.Report]:
  """Builds and compresses the model of a configuration.

  Raises:
    ValueError: an unknown model or option, or rules that do not fit.
  """
  configuration.check_model(config.model)
  options = dict(config.model)
  make_options, make_model = models.MODELS[options.pop('name')]
  model = make_model(
    make_options(**options), rngs=rngs, dtype=activation_dtype(config.dtype)
  )
  # Modes that are chosen for speed are those of the machine.
  with machine(config):
    return model, compress.compress(model, config.compress, rngs)


def blueprint(config) -> Blueprint:
  """Builds a model without allocating anything."""
  report = None

  def abstract():
    nonlocal report
    model, report = build(config, nnx.Rngs(config.seed))
    return model

  model = nnx.eval_shape(abstract, graph=True)
  matrices = modules.matrices(model)
  specs = {path: module.spec for path, module in matrices.items()}
  tables = frozenset(
    path for path, module in matrices.items() if isinstance(module, embed.Embed)
  )
  partitions = modules.partitions(model)
  return Blueprint(*modules.split(model), report, specs, tables, partitions)


def initialize(config, shardings) -> dict:
  """The model's arrays {'params', 'buffers'}, created where they belong."""
  return initializer(config, shardings)(jax.random.key(config.seed))


def initializer(config, shardings) -> jax.stages.Wrapped:
  """The compiled function: key -> the model's arrays {'params', 'buffers'}.

  Args:
    config: of the run.
    shardings: one for all arrays, or a tree of them.
  """

  def init(key):
    model, _ = build(config, nnx.Rngs(key))
    _, params, buffers = modules.split(model)
    return {'params': params, 'buffers': buffers}

  return jax.jit(init, out_shardings=shardings)


def processor() -> str:
  """The name of the CPU, as far as the system tells it."""
  try:
    with open('/proc/cpuinfo') as lines:
      names = [line.split(':')[1] for line in lines if 'model name' in line]
  except OSError:
    names = []
  return names[0].strip() if names else platform.processor()


def hardware() -> str:
  """What the numbers of a run were made on."""
  [kind] = {device.device_kind for device in jax.devices()}
  cores = f'{os.cpu_count()} cores, {processor()}'
  if jax.default_backend() == 'cpu':
    return cores
  return f'{jax.device_count()} x {kind}; host: {cores}'


def versions() -> dict[str, str]:
  """Versions of what decides a result."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  return {name: importlib.metadata.version(name) for name in packages}
