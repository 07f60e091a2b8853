"""Greedy decoding: the likeliest id at every position."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from tt_compress.tasks.decoding import hypotheses, protocol


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

  def advance(carry):
    index, previous, is_open, tokens, scores, cache = carry
    logits, cache = model.step(context, cache, previous[:, None], index)
    gains, chosen = options.best(logits[:, 0], 1)
    chosen = jnp.where(is_open, chosen[:, 0], jnp.int32(options.pad_id))
    scores += jnp.where(is_open, gains[:, 0], 0.0)
    tokens = tokens.at[:, index].set(chosen)
    is_open &= (chosen != options.eos_id) & (index + 1 < limits)
    return index + 1, chosen, is_open, tokens, scores, cache

  carry = (
    jnp.int32(0),
    jnp.full(batch_size, options.bos_id, jnp.int32),
    limits > 0,
    jnp.full((batch_size, options.max_length), options.pad_id, jnp.int32),
    jnp.zeros(batch_size, jnp.float32),
    cache,
  )
  carry = jax.lax.while_loop(lambda carry: carry[2].any(), advance, carry)
  _, _, _, tokens, scores, _ = carry
  lengths = jnp.sum(tokens != options.pad_id, axis=-1, dtype=jnp.int32)
  scores /= options.penalty(lengths)
  return options.hypotheses(tokens[:, None], scores[:, None])
