"""Builds the model of a configuration, abstract or initialized."""

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import nnx

from tt_compress import configuration, models, rules
from tt_compress.algebra import context, networks
from tt_compress.nn import (
  compress,
  keys,
  modules,
  stack,
  stacked,
  swapped,
  threefry,
)

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Blueprint:
  """A compressed model without arrays.

  Attributes:
    graphdef: its static part.
    params: shapes of the trained arrays; equal layers share arrays where the
      model scans them, see `nn.stacked`.
    buffers: shapes of the other arrays.
    report: the matrices that were compressed.
    matrices: the spec of every matrix, by path.
    roles: what a layer computes with each of them, by path.
    partitions: by matrix, the axis of each array that is sharded if several
      devices share a layer.
    dense_num_params: number of parameters of the dense twin.
  """

  graphdef: nnx.GraphDef
  params: dict
  buffers: dict
  report: swapped.Report
  matrices: dict[str, Any]
  roles: dict[str, networks.Role]
  partitions: dict[str, dict[str, int]]
  dense_num_params: int

  @property
  def variables(self) -> dict:
    """Shapes of all arrays, {'params', 'buffers'}."""
    return {'params': self.params, 'buffers': self.buffers}

  @property
  def factors(self) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape} of the trained arrays that are factors of matrices."""
    starts = tuple(f'{path}/factors/' for path in self.matrices)
    leaves = jax.tree_util.tree_leaves_with_path(stacked.unstack(self.params))
    shapes = {stacked.name(path): leaf for path, leaf in leaves}
    return {
      path: leaf for path, leaf in shapes.items() if path.startswith(starts)
    }

  def settled_at(self, num_steps: int) -> int:
    """The first step whose checkpoint may be the best.

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
    ValueError: the name is not auto, float32 or bfloat16.
  """
  if name == 'auto':
    name = 'float32' if context.current().backend == 'cpu' else 'bfloat16'
  if name not in DTYPES:
    raise ValueError(f'dtype={name!r} must be auto or one of {sorted(DTYPES)}')
  return DTYPES[name]


def machine(config) -> contextlib.AbstractContextManager:
  """A context whose contractions are chosen for the machine of a run."""
  given = {
    name: value for name, value in config.machine.items() if value is not None
  }
  return context.use(
    machine=dataclasses.replace(context.current().machine, **given)
  )


def _build(config, rngs: nnx.Rngs) -> nnx.Module:
  """Builds the model of a configuration, before compression."""
  configuration.check_model(config.model)
  _, make_model = models.MODELS[config.model.name]
  return make_model(
    models.options(config.model),
    rngs=rngs,
    dtype=activation_dtype(config.dtype),
  )


def _compress(model, config, rngs: nnx.Rngs) -> swapped.Report:
  # Modes that are chosen for speed depend on the machine.
  with machine(config):
    return compress.compress(model, config.compress, rngs)


def _scan(model: nnx.Module, config) -> None:
  """Scans equal layers, unless rules of the run are for some of them."""
  patterns = (
    (*(config.optimizer.frozen or ()), *_patterns(config.optimizer.rules)),
    _patterns(config.sharding.rules),
  )
  for path, reason in stack.scan(model, patterns).items():
    logging.info('the layers of %s are not scanned: %s', path, reason)


def _patterns(rule_list) -> tuple[str, ...]:
  return tuple(pattern for pattern, _ in rules.pairs(rule_list))


def blueprint(config) -> Blueprint:
  """Builds and compresses a model without allocating anything.

  Raises:
    ValueError: an unknown model or option, or rules that do not fit.
  """
  report = dense_num_params = None

  def abstract():
    nonlocal report, dense_num_params
    rngs = keys.Rngs(config.seed)
    model = _build(config, rngs)
    dense_num_params = _num_params(model)
    report = _compress(model, config, rngs)
    _scan(model, config)
    return model

  model = nnx.eval_shape(abstract, graph=True)
  twin = configuration.twin(config)
  if twin.model != config.model:
    dense_num_params = _num_params(
      nnx.eval_shape(lambda: _build(twin, keys.Rngs(0)), graph=True)
    )
  return of_model(model, report, dense_num_params)


def of_model(
  model: nnx.Module, report: swapped.Report, dense_num_params: int
) -> Blueprint:
  """The blueprint of an abstract model; see `Blueprint`."""
  matrices = {
    path: module
    for shared, module in modules.matrices(model).items()
    for path in stacked.paths(shared)
  }
  specs = {path: module.spec.one_layer for path, module in matrices.items()}
  roles = {path: module.role for path, module in matrices.items()}
  return Blueprint(
    *modules.split(model),
    report,
    specs,
    roles,
    modules.partitions(model),
    dense_num_params,
  )


def _num_params(model: nnx.Module) -> int:
  _, params, _ = modules.split(model)
  return modules.num_params(params)


def initialize(config, shardings) -> dict:
  """Initial arrays {'params', 'buffers'}, created with their shardings."""
  return initializer(config, shardings)(jax.random.key(config.seed))


def initializer(config, shardings) -> jax.stages.Wrapped:
  """The compiled function: key -> initial arrays {'params', 'buffers'}.

  Args:
    config: of the run.
    shardings: one sharding for all arrays, or a tree of shardings.
  """

  def init(key):
    rngs = keys.Rngs(threefry.written_out(key))
    model = _build(config, rngs)
    _compress(model, config, rngs)
    _scan(model, config)
    _, params, buffers = modules.split(model)
    return {'params': params, 'buffers': buffers}

  return jax.jit(init, out_shardings=shardings)
