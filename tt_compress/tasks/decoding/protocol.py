"""The interface between the searches and the models that they decode with."""

import typing

import jax
from jaxtyping import Array, Float, Int, PyTree

from tt_compress.nn import past


@typing.runtime_checkable
class Decodable(typing.Protocol):
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

  def step(
    self,
    context: PyTree,
    cache: PyTree,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], PyTree]:
    """Predicts the id at position `index` of every hypothesis.

    Args:
      context: from `start`.
      cache: from `start` or from the previous step.
      tokens: ids at position `index - 1`; the id that begins a sentence at
        index 0.
      index: position, counted from 0.

    Returns:
      Logits of any float dtype, and the cache for the next step.
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
  context, cache = model.start(inputs, max_length, beam_size)
  batch = inputs.shape[0]
  _check(model, 'context', context, (batch,))
  for path, node in jax.tree_util.tree_leaves_with_path(
    cache, is_leaf=past.is_past
  ):
    name = 'cache' + jax.tree_util.keystr(path)
    if past.is_past(node):
      _check(model, f'{name}.entries', node.entries, (batch,))
      node = node.slots
    _check(model, name, node, (batch, beam_size))
  return context, cache


def _check(model, name: str, tree: PyTree, axes: tuple[int, ...]) -> None:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if leaf.shape[: len(axes)] != axes:
      raise ValueError(
        f'{type(model).__name__}.start returns {name}'
        f'{jax.tree_util.keystr(path)} of shape {leaf.shape}, but its first'
        f' axes must be {axes}: the context has one entry per sentence, the'
        ' cache one per hypothesis'
      )


def reorder(cache: PyTree, parents: Int[Array, 'batch beam']) -> PyTree:
  """The cache of the hypotheses that continue `parents`."""

  def follow(node):
    if past.is_past(node):
      return node.reordered(parents)
    # Within each sentence, so that sentences can be sharded.
    return jax.vmap(lambda entries, parent: entries[parent])(node, parents)

  return jax.tree.map(follow, cache, is_leaf=past.is_past)
