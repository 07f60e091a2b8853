"""Greedy decoding: the likeliest id at every position."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from tt_compress.tasks.decoding import extending, hypotheses, protocol


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

  def choose(logits, extra, index):
    del extra, index
    gains, ids = options.best(logits[:, 0], 1)
    return ids, gains

  found = extending.extend(
    model,
    protocol.start(model, inputs, options.max_length, 1),
    jnp.full((batch_size, 1), options.bos_id, jnp.int32),
    choose,
    limits=options.limits(limits, batch_size),
    max_length=options.max_length,
    eos_id=options.eos_id,
    pad_id=options.pad_id,
  )
  scores = found.scores / options.penalty(found.lengths)
  return options.hypotheses(found.tokens, scores)
