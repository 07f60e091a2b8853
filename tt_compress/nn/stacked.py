"""Trees of arrays in which equal layers share arrays with an axis of layers.

A stack is a dict. It has the keys '0', '1', ..., '5' if each layer has arrays
of its own, and the one key '0-5' if their arrays are stacked along a new first
axis. So the path of an array says whether it belongs to one layer, as
'encoder/layers/0/ffn/up/bias', or to all, as 'encoder/layers/0-5/ffn/up/bias'.
"""

import functools
import re
from collections.abc import Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

_KEY = re.compile(r'0-(\d+)')
_IN_PATH = re.compile(r'(?:^|(?<=/))0-(\d+)(?=/|$)')


def key(count: int) -> str:
  """The key of this number of layers."""
  return f'0-{count - 1}'


def size(path: str) -> int | None:
  """The number of layers that share the array at a path; None for one layer."""
  found = _IN_PATH.search(path)
  return found and int(found[1]) + 1


def paths(path: str) -> list[str]:
  """The path in each layer that shares this one; itself if none does."""
  count = size(path)
  if count is None:
    return [path]
  return [_IN_PATH.sub(str(k), path) for k in range(count)]


def name(path: tuple[Any, ...]) -> str:
  """'a/b' for a path of `jax.tree_util.tree_flatten_with_path`."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def names(tree: Any) -> list[str]:
  """The paths of all leaves of a tree."""
  return [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def axes(tree: Any, count: int) -> Any:
  """A tree of 0 where `count` layers share an array, and None elsewhere."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: 0 if size(name(path)) == count else None, tree
  )


def unstack(tree: Any) -> Any:
  """The tree with arrays for each layer, also of `jax.ShapeDtypeStruct`."""

  def each(node):
    if not _is_stacked(node):
      return node
    [(which, layers)] = node.items()
    return {
      str(k): jax.tree.map(functools.partial(_take, k), layers)
      for k in range(size(which))
    }

  return jax.tree.map(each, tree, is_leaf=_is_stacked)


def stack(tree: Any, stacks: Collection[str]) -> Any:
  """The inverse of `unstack`, for the dicts at the paths `stacks`."""

  def each(path, node):
    if not (_is_unstacked(node) and name(path) in stacks):
      return node
    layers = [node[str(k)] for k in range(len(node))]
    return {key(len(node)): jax.tree.map(_join, *layers)}

  is_leaf = lambda path, node: _is_unstacked(node) and name(path) in stacks
  return jax.tree_util.tree_map_with_path(
    each, tree, is_leaf=is_leaf, is_leaf_takes_path=True
  )


def alike(tree: Any, names: Iterable[str]) -> Any:
  """The tree with layers stacked where they are stacked in these paths."""
  found = (re.match(r'(.*)/0-\d+(/|$)', name) for name in names)
  return stack(unstack(tree), {match[1] for match in found if match})


def _is_stacked(node: Any) -> bool:
  return isinstance(node, dict) and any(
    isinstance(key, str) and _KEY.fullmatch(key) for key in node
  )


def _is_unstacked(node: Any) -> bool:
  return isinstance(node, dict) and set(node) == set(map(str, range(len(node))))


def _take(number: int, array: Any) -> Any:
  if not isinstance(array, jax.ShapeDtypeStruct):
    return array[number]
  return _abstract(array, array.shape[1:], lambda axes: axes[1:])


def _join(*arrays: Any) -> Any:
  first = arrays[0]
  if not isinstance(first, jax.ShapeDtypeStruct):
    return jnp.stack(arrays)
  return _abstract(
    first, (len(arrays), *first.shape), lambda axes: (None, *axes)
  )


def _abstract(array, shape, change):
  """A shape of the same dtype, with the sharding of the axes that remain."""
  place = array.sharding
  if isinstance(place, NamedSharding):
    place = NamedSharding(place.mesh, PartitionSpec(*change(place.spec)))
  return jax.ShapeDtypeStruct(shape, array.dtype, sharding=place)
