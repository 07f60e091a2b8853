"""Models whose arrays stay as they are: constant work is done once.

`expand` makes factorized matrices dense, `prepare` does all that speeds a model
up, and `Server` keeps the prepared model for as long as its arrays live.
"""

import dataclasses
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike

from tt_compress.algebra import context
from tt_compress.nn import embed, linear, matrix, modules, stack
from tt_compress.parameterizations import dense, stacked


def expand(
  model: nnx.Module, *, tokens: int | None = None, max_bytes: int | None = None
) -> None:
  """Replaces factorized matrices by the dense ones they stand for, in place.

  The inverse of `compress`, for inference, where the weights are constant.
  Scanned layers are unrolled: a loop would copy the weights of a layer in every
  call, which takes as long as the products with few vectors.

  Args:
    model: any Flax NNX model.
    tokens: number of vectors that a matrix multiplies in one call. A matrix
      keeps its factors if their product is predicted to be faster than the
      dense one. None replaces every matrix.
    max_bytes: bytes that the dense matrices may take; the matrices that save
      most time per byte come first. None sets no limit.
  """
  modules.check_model(model)
  stack.unroll(model)
  found = [
    (_gain(first, tokens or 1), _dense_bytes(first), first, others)
    for first, *others in _sharing(model)
    if not isinstance(stacked.first(first.spec), dense.Dense)
  ]
  left = float('inf') if max_bytes is None else max_bytes
  for gain, num_bytes, first, others in sorted(
    found, key=lambda entry: entry[0] / entry[1], reverse=True
  ):
    if (tokens is None or gain > 0) and num_bytes <= left:
      left -= num_bytes
      full = first.full()
      spec = dense.Dense(rows=first.spec.rows, cols=first.spec.cols)
      first.become(stacked.of_sizes(spec, full.shape[:-2]), {'matrix': full})
      for other in others:
        other.share(first)


def _sharing(model: nnx.Module) -> list[list[matrix.Matrix]]:
  """The matrices of a model, those with the same variables together."""
  found = {}
  for module in modules.matrices(model).values():
    found.setdefault(tuple(map(id, module.variables())), []).append(module)
  return list(found.values())


def _dense_bytes(module: matrix.Matrix) -> int:
  count = math.prod(stacked.counts(module.spec))
  return 4 * count * module.spec.rows * module.spec.cols


def _gain(module: matrix.Matrix, tokens: int) -> float:
  """Predicted seconds per call that the dense matrix saves."""
  is_embed = isinstance(module, embed.Embed)
  counts = stacked.counts(module.spec)
  factors = jax.tree.map(lambda a: a[len(counts) * (0,)], module.values())
  with context.use(gradients=False):
    return math.prod(counts) * matrix.seconds_saved(
      stacked.first(module.spec), factors, tokens, transposed=is_embed
    )


def prepare(
  model: nnx.Module,
  dtype: DTypeLike,
  *,
  tokens: int,
  max_bytes: int | None = None,
) -> None:
  """Makes a model faster to call, in place; results stay the same.

  Matrices lose the factors that only training needs and become dense where
  that is faster. `Linear` layers merge and cast their factors once instead of
  in every call.

  Args:
    model: any Flax NNX model.
    dtype: of the inputs of the `Linear` layers.
    tokens: number of vectors that a matrix multiplies in one call.
    max_bytes: bytes that the dense matrices may take; None sets no limit.
  """
  stack.unroll(model)
  for module in modules.matrices(model).values():
    module.become(*module.spec.bare(module.values()))
  expand(model, tokens=tokens, max_bytes=max_bytes)
  for module in modules.matrices(model).values():
    if isinstance(module, linear.Linear):
      module.prepare(tokens, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
  """The static part of a prepared model.

  Equal only to itself, hence a cheap static argument of a compiled function.

  Attributes:
    graphdef: graph of the prepared model.
    treedef: structure of its params and buffers.
    sources: for every array of the prepared model, its index among the arrays
      of the original model, or None if preparation created the array.
  """

  graphdef: nnx.GraphDef
  treedef: Any
  sources: tuple[int | None, ...]

  def merge(self, arrays: list[jax.Array]) -> nnx.Module:
    """The prepared model, from the arrays that `Server` returns."""
    return modules.merge(self.graphdef, *self.treedef.unflatten(arrays))


@dataclasses.dataclass(frozen=True)
class _Made:
  """The arrays that preparation created, and the form they belong to."""

  arrays: list[jax.Array]
  form: Form


jax.tree_util.register_dataclass(
  _Made, data_fields=['arrays'], meta_fields=['form']
)


class Server:
  """Prepares models of one graph, once for each set of arrays.

  The result is kept while all arrays that it was made from exist. As soon as
  one of them is deleted, for example by a training step, the result is freed.

  Args:
    graphdef: graph of the models.
    change: (model, tokens) -> None; prepares the model in place while traced.
  """

  def __init__(
    self, graphdef: nnx.GraphDef, change: Callable[[nnx.Module, int], None]
  ):
    self._graphdef = graphdef
    self._change = change
    self._make = jax.jit(self._changed, static_argnames='tokens')
    self._forget()

  def __call__(
    self, variables: Mapping, tokens: int
  ) -> tuple[Form, list[jax.Array]]:
    """The form and the arrays of the prepared model.

    Args:
      variables: {'params': ..., 'buffers': ...}. Arrays are recognized by
        identity, so their contents must not change.
      tokens: passed to `change`.
    """
    leaves = jax.tree.leaves(variables)
    if not self._remembers(leaves, tokens):
      self._forget()  # first, so that memory never holds two results
      self._made = self._make(variables, tokens=tokens)
      self._tokens = tokens
      self._known = _watch(leaves, self)
    form, new = self._made.form, iter(self._made.arrays)
    places = form.sources
    return form, [next(new) if k is None else leaves[k] for k in places]

  def _changed(self, variables, tokens):
    model = modules.merge(self._graphdef, **variables)
    self._change(model, tokens)
    graphdef, *parts = modules.split(model)
    arrays, treedef = jax.tree.flatten(parts)
    # Unchanged arrays are not returned: jit would copy them, and copies would
    # take memory twice.
    places = {id(a): k for k, a in enumerate(jax.tree.leaves(variables))}
    sources = tuple(places.get(id(array)) for array in arrays)
    new = [a for a, k in zip(arrays, sources, strict=True) if k is None]
    return _Made(new, Form(graphdef, treedef, sources))

  def _remembers(self, leaves, tokens):
    return (
      self._made is not None
      and tokens == self._tokens
      and len(leaves) == len(self._known)
      and all(map(lambda known, a: known() is a, self._known, leaves))
    )

  def _forget(self):
    self._made, self._tokens, self._known = None, None, ()


def _watch(leaves, server):
  """Weak references to arrays; the server forgets when the first one dies."""
  owner = weakref.ref(server)

  def forget(_):
    if owner() is not None:
      owner()._forget()

  return [weakref.ref(leaf, forget) for leaf in leaves]
