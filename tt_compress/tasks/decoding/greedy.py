"""Greedy decoding: the likeliest id at every position."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from tt_compress.tasks.decoding import hypotheses, protocol, shrinking


class _Fixed(NamedTuple):
  context: PyTree
  limits: Int[Array, ' batch']


class _State(NamedTuple):
  unended: Bool[Array, ' batch']
  previous: Int[Array, ' batch']
  tokens: Int[Array, 'batch length']
  scores: Float[Array, ' batch']  # sums of log probabilities
  cache: PyTree


def search(
  model: protocol.Decodable,
  inputs: Int[Array, 'batch source'],
  options: hypotheses.Options,
  *,
  limits: Int[Array, ' batch'] | None = None,
) -> hypotheses.Hypotheses:
  """Takes the likeliest id at every position, until eos or the limit.

  Not a beam search with one beam, which may pass over eos for a longer output
  of higher score.

  Args:
    model: see `protocol.Decodable`.
    inputs: source ids.
    options: the length penalty scales the scores and changes no output.
    limits: a max_length for each sentence; 0 gives the empty hypothesis.

  Returns:
    One hypothesis per sentence.
  """
  batch_size = inputs.shape[0]
  limits = options.limits(limits, batch_size)
  context, cache = protocol.start(model, inputs, options.max_length, 1)

  def is_open(fixed: _Fixed, state: _State, index) -> Bool[Array, ' batch']:
    return state.unended & (index < fixed.limits)

  def step(fixed: _Fixed, state: _State, index) -> _State:
    unended, previous, tokens, scores, cache = state
    logits, cache = model.step(fixed.context, cache, previous[:, None], index)
    gains, chosen = options.best(logits[:, 0], 1)
    keep = is_open(fixed, state, index)
    chosen = jnp.where(keep, chosen[:, 0], jnp.int32(options.pad_id))
    return _State(
      unended=unended & (chosen != options.eos_id),
      previous=chosen,
      tokens=tokens.at[:, index].set(chosen),
      scores=scores + jnp.where(keep, gains[:, 0], 0.0),
      cache=cache,
    )

  def result(fixed: _Fixed, state: _State) -> hypotheses.Hypotheses:
    del fixed
    lengths = jnp.sum(state.tokens != options.pad_id, axis=-1, dtype=jnp.int32)
    scores = state.scores / options.penalty(lengths)
    return options.hypotheses(state.tokens[:, None], scores[:, None])

  state = _State(
    unended=jnp.ones(batch_size, bool),
    previous=jnp.full(batch_size, options.bos_id, jnp.int32),
    tokens=jnp.full(
      (batch_size, options.max_length), options.pad_id, jnp.int32
    ),
    scores=jnp.zeros(batch_size, jnp.float32),
    cache=cache,
  )
  return shrinking.loop(step, is_open, result, _Fixed(context, limits), state)
