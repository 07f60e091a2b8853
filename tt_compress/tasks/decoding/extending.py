"""Extends outputs by one id per step, without branches."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from tt_compress.tasks.decoding import protocol, shrinking


class Outputs(NamedTuple):
  """Outputs of every text.

  Attributes:
    tokens: ids that end with eos unless the limit came first, then padding.
    scores: sums of their log probabilities.
    lengths: number of ids, eos included.
  """

  tokens: Int[Array, 'batch beam length']
  scores: Float[Array, 'batch beam']
  lengths: Int[Array, 'batch beam']


class _Fixed(NamedTuple):
  context: PyTree
  limits: Int[Array, ' batch']
  extra: PyTree


class _State(NamedTuple):
  unended: Bool[Array, 'batch beam']
  previous: Int[Array, 'batch beam']
  outputs: Outputs
  cache: PyTree


# Called as (logits [batch, beam, vocab], extra, index), it returns an id for
# each hypothesis and its log probability.
Choose = Callable[
  [Float[Array, 'batch beam vocab'], PyTree, Int[Array, '']],
  tuple[Int[Array, 'batch beam'], Float[Array, 'batch beam']],
]


def extend(
  model: protocol.Extending,
  started: tuple[PyTree, PyTree],
  previous: Int[Array, 'batch beam'],
  choose: Choose,
  *,
  limits: Int[Array, ' batch'],
  max_length: int,
  eos_id: int | None,
  pad_id: int,
  extra: PyTree = None,
) -> Outputs:
  """Appends the ids that `choose` takes, until eos or the limit.

  Args:
    model: has `step`.
    started: context and cache, see `protocol`.
    previous: ids that the first step gets.
    choose: takes the ids of a step.
    limits: largest number of ids in the outputs of each text.
    max_length: the largest limit.
    eos_id: ends an output; None if nothing but the limit does.
    pad_id: fills the rest of each output.
    extra: arrays [batch, ...] for `choose`.
  """
  context, cache = started
  shape = previous.shape

  def is_open(fixed: _Fixed, state: _State, index) -> Bool[Array, ' batch']:
    return jnp.any(state.unended, axis=1) & (index < fixed.limits)

  def step(fixed: _Fixed, state: _State, index) -> _State:
    unended, previous, (tokens, scores, lengths), cache = state
    logits, cache = model.step(fixed.context, cache, previous, index)
    chosen, gains = choose(logits, fixed.extra, index)
    keep = unended & (index < fixed.limits)[:, None]
    chosen = jnp.where(keep, chosen, jnp.int32(pad_id))
    outputs = Outputs(
      tokens.at[:, :, index].set(chosen),
      scores + jnp.where(keep, gains, 0.0),
      lengths + keep,
    )
    if eos_id is not None:
      unended &= chosen != eos_id
    return _State(unended, chosen, outputs, cache)

  state = _State(
    unended=jnp.ones(shape, bool),
    previous=previous,
    outputs=Outputs(
      jnp.full((*shape, max_length), pad_id, jnp.int32),
      jnp.zeros(shape, jnp.float32),
      jnp.zeros(shape, jnp.int32),
    ),
    cache=cache,
  )
  fixed = _Fixed(context, limits, extra)
  return shrinking.loop(
    step, is_open, lambda fixed, state: state.outputs, fixed, state
  )
