"""The state of a run: its shapes on a mesh, how it begins and is resumed."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from tt_compress.nn import stacked
from tt_compress.training import build, carry, layout, step
from tt_compress.training.checkpoints import checkpoints

State = dict[str, Any]


def abstract(
  config,
  blueprint: build.Blueprint,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
) -> State:
  """Shapes of the state of a run, with their shardings on a mesh."""
  shapes = jax.eval_shape(
    lambda variables: step.start(
      variables, optimizer, carry.in_memory(config, mesh)
    ),
    blueprint.variables,
  )
  return layout.of_run(config, blueprint, mesh).abstract(shapes)


def shardings(shapes: Any) -> Any:
  """The shardings of what `abstract` returns, or of a part of it."""
  return jax.tree.map(lambda leaf: leaf.sharding, shapes)


def variables(state: Mapping[str, Any]) -> dict[str, Any]:
  """The arrays of the model in a state."""
  return {name: state[name] for name in ('params', 'buffers')}


def begin(
  config,
  shapes: State,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  fitted: Mapping[str, Any] | None = None,
) -> State:
  """The state before the first step.

  Args:
    config: of the run.
    shapes: what `abstract` returns.
    optimizer: of the parameters.
    mesh: of the run.
    fitted: arrays {'params', 'buffers'} to start from, whether or not their
      layers are stacked as in `shapes`; random ones if None.
  """
  places = shardings(shapes)
  if fitted is None:
    arrays = build.initialize(config, variables(places))
  else:
    own = variables(places)
    fitted = stacked.alike(jax.device_get(fitted), stacked.names(own))
    arrays = jax.device_put(fitted, own)
  return step.initial_state(
    arrays, optimizer, mesh, places, carry.in_memory(config, mesh)
  )


def restore(
  config, shapes: State, mesh: Mesh, saved: checkpoints.Checkpoints
) -> State:
  """The state of the latest checkpoint, on this mesh."""
  state = saved.restore({**shapes, 'carry': carry.in_checkpoints(config, mesh)})
  return {**state, 'carry': carry.resized(state['carry'], shapes['carry'])}


def save(
  config,
  state: State,
  mesh: Mesh,
  saved: checkpoints.Checkpoints,
  scores: Mapping[str, float] | None,
) -> None:
  """Starts saving a state; scores make it a candidate for the best one."""
  kept = carry.resized(state['carry'], carry.in_checkpoints(config, mesh))
  saved.save(int(state['step']), {**state, 'carry': kept}, scores)
