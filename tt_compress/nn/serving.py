"""Models with constant arrays: what every call would repeat is done once."""

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from tt_compress.nn import compress, linear, modules


def prepare(
  model: nnx.Module, dtype, *, tokens: int, memory: int | None = None
) -> None:
  """Makes a model faster to call and changes no result, in place.

  Matrices are written without what only training needs, made dense where that
  is faster, and in `Linear` layers merged and cast as a call would do it.

  Args:
    model: any Flax NNX model.
    dtype: of the x that `Linear` layers get.
    tokens: rows of x in a call.
    memory: bytes that the dense matrices may take; None sets no bound.
  """
  for module in modules.matrices(model).values():
    module.become(*module.spec.bare(module.values()))
  compress.expand(model, tokens=tokens, memory=memory)
  for module in modules.matrices(model).values():
    if isinstance(module, linear.Linear):
      module.prepare(tokens, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
  """How a prepared model is put together; itself its only equal.

  So it is a cheap static argument of a compiled function.

  Attributes:
    graphdef: its graph.
    treedef: of its params and buffers.
    sources: for every array the place among those it was made of, or None
      where it is new.
  """

  graphdef: nnx.GraphDef
  treedef: Any
  sources: tuple[int | None, ...]

  def merge(self, arrays: list[jax.Array]) -> nnx.Module:
    """The model with the arrays that came with the form."""
    return modules.merge(self.graphdef, *self.treedef.unflatten(arrays))


@dataclasses.dataclass(frozen=True)
class _Made:
  """New arrays, and the form that they have a place in."""

  arrays: list[jax.Array]
  form: Form


jax.tree_util.register_dataclass(
  _Made, data_fields=['arrays'], meta_fields=['form']
)


class Server:
  """Prepares models of one graph, once for each set of arrays.

  It remembers what it made of the last arrays as long as these are there: once
  one of them is gone, as when training goes on, what was made of them is, too.

  Args:
    graphdef: of the models.
    change: (model, tokens), what to do with a model in place, traced.
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
      variables: {'params': ..., 'buffers': ...}; arrays are known again by
        identity, so they may not be written into.
      tokens: for `change`.
    """
    leaves = jax.tree.leaves(variables)
    if not self._remembers(leaves, tokens):
      self._forget()  # now: there should not be two at a time
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
    # Arrays as they were are no results: those would be copies, or keep alive
    # what they were made of.
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
  """References that keep no array alive; the server forgets with the first."""
  owner = weakref.ref(server)

  def forget(_):
    if owner() is not None:
      owner()._forget()

  return [weakref.ref(leaf, forget) for leaf in leaves]
