"""Compiles the training step from shapes; measures its bytes and traffic.

  python -m tt_compress.planning.compiled 8 < config.json
  python -m tt_compress.planning.compiled h100:8 < config.json
  python -m tt_compress.planning.compiled v5e:8x8 < config.json

Reads a configuration and writes the result of `measure`, as JSON.
`device_plan` runs this in a new process.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from tt_compress import configuration, tasks
from tt_compress.algebra import context
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.planning import kernels, targets, traffic, work
from tt_compress.training import (
  build,
  distillation,
  lazy,
  optimizers,
  states,
  step,
)


def measure(config, devices: Sequence[jax.Device]) -> dict[str, Any]:
  """Compiles the step of a run for some devices, without allocating arrays.

  Returns:
    'name' of the run, 'backend' and 'dtype', 'mesh', 'batch' (shapes),
    'padding' (examples that fill the batch), 'num_params', 'device_params' (on
    each device), 'memory' (bytes on each device, see `memory`), 'traffic'
    (bytes that a device exchanges per step, by axes), 'data_bytes' (traffic
    along the axis 'data'), 'kernels' (see `kernels.count`), 'work' (see
    `work.count`) and 'seconds' of compilation.
  """
  mesh = sharding.make_mesh(**config.mesh, devices=devices)
  with context.use(backend=devices[0].platform), build.machine(config):
    lowered, facts = _lower(config, mesh)
    dtype = build.activation_dtype(config.dtype)
  start = time.monotonic()
  compiled = lowered.compile()
  text = compiled.as_text()
  found = traffic.transfers(text, mesh)
  return {
    'name': config.name,
    'backend': devices[0].device_kind,
    'dtype': jax.numpy.dtype(dtype).name,
    'mesh': dict(mesh.shape),
    **facts,
    'memory': memory(compiled),
    'traffic': traffic.by_axes(found),
    'data_bytes': traffic.total(found, sharding.DATA),
    'kernels': kernels.count(text),
    'work': work.count(text),
    'seconds': round(time.monotonic() - start, 1),
  }


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
  """Bytes of 'arguments', 'temporaries' and 'outputs', shared bytes once."""
  found = compiled.memory_analysis()
  return {
    'arguments': found.argument_size_in_bytes,
    'temporaries': found.temp_size_in_bytes,
    'outputs': found.output_size_in_bytes - found.alias_size_in_bytes,
  }


def _lower(config, mesh):
  """The step, traced for the shapes of state and batch, and its sizes."""
  blueprint = build.blueprint(config)
  task = tasks.TASKS[config.task](config, blueprint.graphdef, None)
  lesson = distillation.abstract(config, task, mesh)
  optimizer, _ = optimizers.of_run(config, blueprint)
  state = states.abstract(config, blueprint, optimizer, mesh)
  shardings = states.shardings(state)
  update = step.make_step(
    blueprint.graphdef,
    lesson.loss,
    optimizer,
    mesh,
    seed=config.seed,
    num_examples=1.0,  # The true number needs the data; it changes no shape.
    accumulation=config.accumulation,
    shardings=shardings,
    tables=lazy.tables(config.optimizer, blueprint),
    tokens=task.batch_rows(config),
    constants=states.shardings(lesson.constants),
  )
  parts = mesh.shape[sharding.DATA] * config.accumulation
  batch = task.batch_shapes(config, parts)
  num_examples = lambda batch: batch['positions'].shape[0]
  facts = {
    'batch': {name: list(each.shape) for name, each in batch.items()},
    'padding': num_examples(batch) - num_examples(task.batch_shapes(config, 1)),
    'num_params': modules.num_params(blueprint.params),
    'device_params': _on_device(blueprint.params, shardings['params']),
  }
  return update.lower(state, batch, *lesson.constants), facts


def _on_device(shapes, shardings):
  """Numbers of arrays that one device holds."""
  size = lambda a, place: math.prod(place.shard_shape(a.shape))
  return sum(jax.tree.leaves(jax.tree.map(size, shapes, shardings)))


def main() -> None:
  [_, name] = sys.argv
  config = configuration.from_json(sys.stdin.read())
  json.dump(measure(config, targets.devices(name)), sys.stdout)


if __name__ == '__main__':
  main()
