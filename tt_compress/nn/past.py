"""What hypotheses of a search share: arrays that grow by one entry per step."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Past:
  """Entries of earlier positions, each written once and never moved.

  A search continues some hypotheses several times and drops others. Copying
  the entries of each survivor would cost more than to attend to them. Instead,
  a step writes the entries of its position into one slot per hypothesis, and
  the hypotheses remember the slots of their ancestors.

  Attributes:
    entries: arrays [batch, ...] of a model, with one entry per position and
      slot.
    slots: the slot of each position of a hypothesis; there are as many slots
      as hypotheses. Undefined from the present position on.
  """

  entries: PyTree
  slots: Int[Array, 'batch beam length']

  def advanced(self, index: Int[Array, '']) -> 'Past':
    """Hypothesis k writes position `index` into slot k."""
    own = jnp.arange(self.slots.shape[1], dtype=self.slots.dtype)
    slots = self.slots.at[:, :, index].set(own)
    return dataclasses.replace(self, slots=slots)

  def reordered(self, parents: Int[Array, 'batch beam']) -> 'Past':
    """Of the hypotheses that continue `parents`."""
    slots = jnp.take_along_axis(self.slots, parents[:, :, None], axis=1)
    return dataclasses.replace(self, slots=slots)

  def visible(
    self, index: Int[Array, '']
  ) -> Bool[Array, 'batch beam length slot']:
    """Whether an entry belongs to a hypothesis, up to position `index`."""
    _, beam, length = self.slots.shape
    owned = self.slots[..., None] == jnp.arange(beam)
    return owned & (jnp.arange(length) <= index)[:, None]


def start(
  entries: PyTree, batch_size: int, beam_size: int, max_length: int
) -> Past:
  """The past of hypotheses without positions.

  Args:
    entries: arrays [batch, ...] with room for max_length positions of beam_size
      slots.
    batch_size: number of sentences.
    beam_size: hypotheses per sentence.
    max_length: number of positions.
  """
  slots = jnp.zeros((batch_size, beam_size, max_length), jnp.int32)
  return Past(entries, slots)


def is_past(node: object) -> bool:
  return isinstance(node, Past)
