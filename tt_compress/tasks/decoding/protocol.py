"""The interface between the searches and the models that they decode with.

A model has `step` and one of two beginnings: `start` reads the source of an
output, `start_text` reads the text that an output continues. A language model
that reads with a memory, `read(tokens, memory)`, needs neither: see
`remembering`.
"""

import typing

import jax
from jaxtyping import Array, Float, Int, PyTree

from tt_compress.nn import past


class Extending(typing.Protocol):
  """A model that extends the hypotheses of sentences by one id per step.

  `context` and `cache` are trees of arrays that only the model looks into:

  - context, [batch, ...]: constant during a search and shared by the hypotheses
    of a sentence. Examples: encoder output, its keys and values, its mask.
  - cache, [batch, beam, ...]: one entry per hypothesis. Example: a recurrent
    state. The search copies and reorders the entries along the second axis as
    hypotheses branch and die, at every step, so the cache should hold nothing
    that belongs to the context. Arrays that grow by one entry per position,
    like keys and values, belong into an `nn.past.Past`, which is not copied.

  Finished sentences leave the batch: `step` may get the entries of some
  sentences alone.
  """

  def step(
    self,
    context: PyTree,
    cache: PyTree,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], PyTree]:
    """Predicts the id at position `index` of every hypothesis.

    Args:
      context: from `start` or `start_text`.
      cache: from there or from the previous step.
      tokens: ids at position `index - 1`; at index 0 the id that begins a
        sentence, or the last id of the text to continue.
      index: position in the hypothesis, counted from 0.

    Returns:
      Logits of any float dtype, and the cache for the next step.
    """


@typing.runtime_checkable
class Decodable(Extending, typing.Protocol):
  """A model whose outputs have a source, such as a translation."""

  def start(
    self,
    inputs: Int[Array, 'batch source'],
    max_length: int,
    beam_size: int,
  ) -> tuple[PyTree, PyTree]:
    """Encodes sentences, before the first step.

    Args:
      inputs: source ids; rows are independent of each other.
      max_length: number of steps that may follow.
      beam_size: hypotheses per sentence.

    Returns:
      The context [batch, ...] and the cache [batch, beam, ...] of empty
      hypotheses, which are all alike.
    """


@typing.runtime_checkable
class Continuing(Extending, typing.Protocol):
  """A language model, whose outputs continue a text."""

  def start_text(
    self,
    tokens: Int[Array, 'batch length'],
    lengths: Int[Array, ' batch'],
    max_length: int,
    beam_size: int,
  ) -> tuple[PyTree, PyTree]:
    """Reads texts but for their last ids, which the first step gets.

    Args:
      tokens: ids of a text per row; what follows them has no effect.
      lengths: number of ids to read of each text; may be 0.
      max_length: number of steps that may follow.
      beam_size: hypotheses per text.

    Returns:
      See `Decodable.start`.
    """


class Preparable(Decodable, typing.Protocol):
  """A model whose steps can be made faster, as `decoder.Decoder` does."""

  def prepare(self, *, tokens: int, max_bytes: int | None = None) -> None:
    """Makes `step` faster while the arrays are constant, in place.

    A call of `nn.serving.prepare` is usually the whole body.

    Args:
      tokens: number of hypotheses in one step.
      max_bytes: bytes that matrices made dense may take; None sets no limit.
    """


def start(
  model: Decodable,
  inputs: Int[Array, 'batch source'],
  max_length: int,
  beam_size: int,
) -> tuple[PyTree, PyTree]:
  """`model.start`, whose result is checked.

  Raises:
    ValueError: an array of the context is not [batch, ...], or one of the cache
      not [batch, beam, ...].
  """
  found = model.start(inputs, max_length, beam_size)
  _check_start(f'{type(model).__name__}.start', found, inputs, beam_size)
  return found


def start_text(
  model: Continuing,
  tokens: Int[Array, 'batch length'],
  lengths: Int[Array, ' batch'],
  max_length: int,
  beam_size: int,
) -> tuple[PyTree, PyTree]:
  """`model.start_text`, whose result is checked as that of `start`."""
  found = model.start_text(tokens, lengths, max_length, beam_size)
  _check_start(f'{type(model).__name__}.start_text', found, tokens, beam_size)
  return found


def _check_start(name, found, inputs, beam_size):
  (context, cache), batch = found, inputs.shape[0]
  _check(f'{name} returns context', context, (batch,))
  for path, node in jax.tree_util.tree_leaves_with_path(
    cache, is_leaf=past.is_past
  ):
    place = f'{name} returns cache{jax.tree_util.keystr(path)}'
    if past.is_past(node):
      _check(f'{place}.entries', node.entries, (batch,))
      node = node.slots
    _check(place, node, (batch, beam_size))


def _check(name: str, tree: PyTree, axes: tuple[int, ...]) -> None:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if leaf.shape[: len(axes)] != axes:
      raise ValueError(
        f'{name}{jax.tree_util.keystr(path)} of shape {leaf.shape}, but its'
        f' first axes must be {axes}: the context has one entry per sentence,'
        ' the cache one per hypothesis'
      )


def reorder(cache: PyTree, parents: Int[Array, 'batch beam']) -> PyTree:
  """The cache of the hypotheses that continue `parents`."""

  def follow(node):
    if past.is_past(node):
      return node.reordered(parents)
    # Within each sentence, so that sentences can be sharded.
    return jax.vmap(lambda entries, parent: entries[parent])(node, parents)

  return jax.tree.map(follow, cache, is_leaf=past.is_past)
