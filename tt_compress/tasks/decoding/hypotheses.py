"""Outputs of a search: which are allowed, and how they are ranked."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tt_compress.tasks.decoding import likeliest


class Hypotheses(NamedTuple):
  """The n best outputs of every sentence, best first.

  Attributes:
    tokens: ids that end with eos, then padding.
    scores: see `Options`. An empty slot has score -inf, length 0 and only
      padding.
    lengths: number of ids, eos included.
  """

  tokens: Int[Array, 'batch beam length']
  scores: Float[Array, 'batch beam']
  lengths: Int[Array, 'batch beam']


@dataclasses.dataclass(frozen=True)
class Options:
  """Which outputs a search may produce, and how it ranks them.

    score(y) = log p(y) / ((5 + |y|) / 6)^length_penalty

  Attributes:
    max_length: largest number of ids in a hypothesis, eos included.
    bos_id: the id before the first position; like pad_id never produced.
    eos_id: ends a hypothesis.
    pad_id: fills the rest of each output.
    length_penalty: 0 (plain sums of log probabilities) or more.
    num_ids: ids from here on are never produced, because no piece of the
      vocabulary has them; None allows all.

  Raises:
    ValueError: max_length is below 1, or length_penalty is negative.

  Reference: Wu et al., "Google's Neural Machine Translation System" (2016),
    equation 14, without its coverage term.
  """

  max_length: int
  bos_id: int
  eos_id: int
  pad_id: int = 0
  length_penalty: float = 0.6
  num_ids: int | None = None

  def __post_init__(self):
    if self.max_length < 1:
      raise ValueError(f'max_length={self.max_length} must be at least 1')
    if not self.length_penalty >= 0:  # NaN fails, too
      raise ValueError(
        f'length_penalty={self.length_penalty} must be 0 (plain sums) or more:'
        ' a negative one gives no bound at which a search can stop'
      )

  def limits(
    self, limits: Int[Array, ' batch'] | None, batch_size: int
  ) -> Int[Array, ' batch']:
    """Largest number of ids for each sentence, at most max_length."""
    if limits is None:
      return jnp.full(batch_size, self.max_length, jnp.int32)
    return jnp.clip(limits, 0, self.max_length).astype(jnp.int32)

  def penalty(self, lengths: Int[Array, '*n']) -> Float[Array, '*n']:
    """The divisor of log p(y) for outputs y of these lengths."""
    return ((5.0 + lengths.astype(jnp.float32)) / 6.0) ** self.length_penalty

  def best(
    self, logits: Float[Array, '*batch vocab'], count: int
  ) -> tuple[Float[Array, '*batch n'], Int[Array, '*batch n']]:
    """Log probabilities, float32, of the likeliest allowed ids, and the ids.

    Args:
      logits: of all ids.
      count: number of ids; all of them if there are fewer.

    Raises:
      ValueError: num_ids is larger than the vocabulary of the model.
    """
    logits = self._allowed(logits)
    values, ids = likeliest.top_k(logits, min(count, logits.shape[-1]))
    # Not of every id: only the best ones need a probability.
    top = values[..., :1]
    total = jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True)
    return values - top - jnp.log(total), ids

  def _allowed(self, logits):
    """Logits in float32, -inf for ids that are never produced."""
    vocab = logits.shape[-1]
    if self.num_ids is not None and self.num_ids > vocab:
      raise ValueError(
        f'num_ids={self.num_ids} is more than the {vocab} logits: the model has'
        ' fewer rows than the vocabulary has pieces'
      )
    ids = jnp.arange(vocab)
    allowed = ids < (vocab if self.num_ids is None else self.num_ids)
    for banned in (self.pad_id, self.bos_id):
      allowed &= ids != banned
    return jnp.where(allowed, logits.astype(jnp.float32), -jnp.inf)

  def hypotheses(
    self,
    tokens: Int[Array, 'batch beam length'],
    scores: Float[Array, 'batch beam'],
  ) -> Hypotheses:
    """The result of a search; outputs of score -inf become empty slots."""
    filled = ~jnp.isneginf(scores)
    tokens = jnp.where(filled[:, :, None], tokens, jnp.int32(self.pad_id))
    lengths = jnp.sum(tokens != self.pad_id, axis=-1, dtype=jnp.int32)
    return Hypotheses(tokens, scores, lengths)
