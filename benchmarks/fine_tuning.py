"""A few steps of training of a model that has been made smaller."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from flax import nnx

from tt_compress.nn import modules

_CLIP = 1.0  # norm of a gradient
_WARMUP = 10  # a tenth of the steps
_LOGGED = 10


def trained(
  model: nnx.Module,
  loss: Callable[[nnx.Module, Mapping[str, Any]], jax.Array],
  batches: Sequence[Mapping[str, Any]],
  steps: int,
  rate: float,
) -> tuple[nnx.Module, float]:
  """A copy of a model after steps of Adam, and their seconds.

  The learning rate rises in the first tenth of the steps and falls as a cosine;
  gradients have a norm of at most one. The order of the batches is random, with
  one seed; seconds include the compilation.

  Args:
    model: any; it stays as it is.
    loss: of the model and a batch.
    batches: of one shape.
    steps: with a batch each.
    rate: the highest learning rate.

  Raises:
    FloatingPointError: a loss is not finite.
  """
  graphdef, params, buffers = modules.split(model)
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, rate, max(1, steps // _WARMUP), max(2, steps)
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(_CLIP), optax.adam(schedule)
  )

  @jax.jit
  def step(params, state, batch):
    of_batch = lambda params: loss(
      modules.merge(graphdef, params, buffers), batch
    )
    value, grads = jax.value_and_grad(of_batch)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value

  state, began = optimizer.init(params), time.monotonic()
  order = np.random.default_rng(0)
  for number in range(steps):
    batch = batches[order.integers(len(batches))]
    params, state, value = step(params, state, batch)
    if not np.isfinite(value):
      raise FloatingPointError(
        f'step {number}: the loss is {value}; lower the rate, {rate:g}'
      )
    if number % _LOGGED == 0:
      seconds = time.monotonic() - began
      logging.info('step %d: loss %.4f, %.0f s', number, value, seconds)
  return modules.merge(graphdef, params, buffers), time.monotonic() - began
