"""Beam search over the outputs of a batch of sentences."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from tt_compress.tasks.decoding import (
  greedy,
  hypotheses,
  protocol,
  shrinking,
)


class _Beams(NamedTuple):
  """Hypotheses of one kind, best first; a score of -inf marks an empty slot."""

  tokens: Int[Array, 'batch beam length']
  scores: Float[Array, 'batch beam']


class _Fixed(NamedTuple):
  context: PyTree
  limits: Int[Array, ' batch']
  bound: Float[Array, ' batch']  # the largest length penalty


class _State(NamedTuple):
  alive: _Beams  # scores are sums of log probabilities
  finished: _Beams  # scores are divided by the length penalty
  cache: PyTree


def search(
  model: protocol.Decodable,
  inputs: Int[Array, 'batch source'],
  options: hypotheses.Options,
  *,
  beam_size: int,
  limits: Int[Array, ' batch'] | None = None,
) -> hypotheses.Hypotheses:
  """Searches for the outputs of highest score.

  A sentence is closed once no alive hypothesis can beat its worst finished one,
  and closed sentences leave the batch, see `shrinking.loop`. Log probabilities
  only fall and the penalty only grows, so the alive sum over the penalty at the
  limit is an upper bound of its future scores. A hypothesis that reaches the
  limit without eos is returned only for a sentence that has no finished one.
  Pure: jit it.

  Args:
    model: see `protocol.Decodable`.
    inputs: source ids.
    options: allowed outputs, and their score.
    beam_size: hypotheses kept, and returned, for each sentence; 1 means
      `greedy.search`.
    limits: a max_length for each sentence; 0 gives the empty hypothesis.

  Raises:
    ValueError: beam_size is below 1, or the arrays of the model have shapes
      that `protocol.Decodable` does not allow.
  """
  if beam_size < 1:
    raise ValueError(f'beam_size={beam_size} must be at least 1')
  if beam_size == 1:
    return greedy.search(model, inputs, options, limits=limits)
  batch_size = inputs.shape[0]
  limits = options.limits(limits, batch_size)
  context, cache = protocol.start(model, inputs, options.max_length, beam_size)

  fixed = _Fixed(context, limits, options.penalty(limits))

  def is_open(fixed: _Fixed, state: _State, index) -> Bool[Array, ' batch']:
    attainable = state.alive.scores[:, 0] / fixed.bound
    promising = attainable > state.finished.scores[:, -1]
    return (index < fixed.limits) & promising

  def step(fixed: _Fixed, state: _State, index) -> _State:
    alive, finished, cache = state
    previous = alive.tokens[:, :, jnp.maximum(index - 1, 0)]
    previous = jnp.where(index == 0, jnp.int32(options.bos_id), previous)
    logits, cache = model.step(fixed.context, cache, previous, index)
    candidates, parents = _extend(alive, options, logits, index)
    ended = candidates.tokens[:, :, index] == options.eos_id
    scored = candidates.scores / options.penalty(index + 1)
    alive, order = _best(_only(~ended, candidates), beam_size)
    # Old ones first: top_k prefers them in a tie, so results do not depend on
    # how long a closed sentence waits for the others.
    ended = _only(ended, candidates._replace(scores=scored))
    finished, _ = _best(_concatenate(finished, ended), beam_size)
    parents = jnp.take_along_axis(parents, order, axis=1)
    keep = is_open(fixed, state, index)
    return _State(
      alive=_select(keep, alive, state.alive),
      finished=_select(keep, finished, state.finished),
      cache=protocol.reorder(cache, parents),
    )

  def result(fixed: _Fixed, state: _State) -> hypotheses.Hypotheses:
    scores = state.alive.scores / fixed.bound[:, None]
    cut = state.alive._replace(scores=scores)
    none_finished = jnp.isneginf(state.finished.scores[:, 0])
    return options.hypotheses(*_select(none_finished, cut, state.finished))

  shape = batch_size, beam_size, options.max_length
  state = _start(cache, shape, options.pad_id)
  return shrinking.loop(step, is_open, result, fixed, state)


def _start(cache: PyTree, shape: tuple[int, int, int], pad_id: int) -> _State:
  finished = _Beams(
    tokens=jnp.full(shape, pad_id, jnp.int32),
    scores=jnp.full(shape[:2], -jnp.inf, jnp.float32),
  )
  # All beams start equal and would stay equal: only the first is extended.
  alive = finished._replace(scores=finished.scores.at[:, 0].set(0.0))
  return _State(alive, finished, cache)


def _extend(
  alive: _Beams,
  options: hypotheses.Options,
  logits: Float[Array, 'batch beam vocab'],
  index: Int[Array, ''],
) -> tuple[_Beams, Int[Array, 'batch n']]:
  """The 2*beam best extensions by one id, and the beams they come from.

  Only one extension of a beam ends with eos, so at least `beam` of them stay
  alive. The best 2*beam of each beam are found first, because that is cheaper
  than to sort the ids of all beams at once.
  """
  batch, beam = alive.scores.shape
  gains, ids = options.best(logits, 2 * beam)
  offers = ids.shape[-1]
  sums = alive.scores[:, :, None] + gains
  count = min(2 * beam, beam * offers)
  scores, best = jax.lax.top_k(sums.reshape(batch, -1), count)
  ids = jnp.take_along_axis(ids.reshape(batch, -1), best, axis=1)
  parents = best // offers
  tokens = jnp.take_along_axis(alive.tokens, parents[:, :, None], axis=1)
  return _Beams(tokens.at[:, :, index].set(ids), scores), parents


def _only(wanted: Bool[Array, 'batch n'], beams: _Beams) -> _Beams:
  return beams._replace(scores=jnp.where(wanted, beams.scores, -jnp.inf))


def _best(beams: _Beams, count: int) -> tuple[_Beams, Int[Array, 'batch n']]:
  scores, order = jax.lax.top_k(beams.scores, count)
  tokens = jnp.take_along_axis(beams.tokens, order[:, :, None], axis=1)
  return _Beams(tokens, scores), order


def _concatenate(first: _Beams, second: _Beams) -> _Beams:
  return jax.tree.map(
    lambda x, y: jnp.concatenate([x, y], axis=1), first, second
  )


def _select(
  condition: Bool[Array, ' batch'], yes: _Beams, no: _Beams
) -> _Beams:
  return _Beams(
    tokens=jnp.where(condition[:, None, None], yes.tokens, no.tokens),
    scores=jnp.where(condition[:, None], yes.scores, no.scores),
  )
