"""Equal matrices of a model, materialized together.

A model has many linear layers of few shapes. Where their products go through
the full matrix, all matrices of one spec are one batched product of factors,
and so are their gradients. This saves a GPU the starts of many small kernels.
"""

import collections
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tt_compress.algebra import context, cost
from tt_compress.nn import linear, matrix, modules
from tt_compress.parallel import partition
from tt_compress.parameterizations import base, dense, stacked


def materialize(model: nnx.Module, tokens: int) -> None:
  """Makes `Linear` layers dense, in place, where each call would.

  A layer keeps its factors on a CPU, if its matrix is stochastic, if products
  with factors or with blocks of the matrix are predicted to be faster, or if so
  many matrices would no longer stay in the cache, which costs more than the
  starts of their products.

  Args:
    model: any Flax NNX model.
    tokens: number of vectors that a matrix multiplies in total.
  """
  # A CPU starts products at once: there, a step of Multi30k took 8 % longer
  # with its 48 matrices in four groups, and its compilation 25 %.
  if context.current().backend == 'cpu':
    return
  groups = collections.defaultdict(list)
  for module in modules.matrices(model).values():
    if isinstance(module, linear.Linear) and _goes_through_full(module, tokens):
      groups[_kind(module)].append(module)
  for group in groups.values():
    if _is_faster(group):
      _materialize(group)


def _is_faster(group: Sequence[linear.Linear]) -> bool:
  """Whether one write of all matrices takes less time than one of each."""
  first, count = group[0], sum(map(_count, group))
  size = first.spec.rows * first.spec.cols
  itemsize = jnp.dtype(first.param_dtype).itemsize
  model = cost.Model(context.current().machine, itemsize)
  return model.copy(count * size).seconds < count * model.copy(size).seconds


def _goes_through_full(module: linear.Linear, tokens: int) -> bool:
  spec = module.spec.one_layer
  if spec.has_noise:
    return False
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), _layers(module)
  )
  dtype = module.dtype or module.param_dtype
  with context.use(side=module.shard, record=None):
    return matrix.goes_through_full(spec, shapes, tokens, dtype)


def _layers(module: linear.Linear) -> base.Factors:
  """The factors with a first axis of layers."""
  if isinstance(module.spec, stacked.Stacked):
    return module.values()
  return jax.tree.map(lambda a: a[None], module.values())


def _count(module: linear.Linear) -> int:
  """Number of layers that share the factors of a module."""
  return len(jax.tree.leaves(_layers(module))[0])


def _kind(module: linear.Linear) -> Hashable:
  """Equal for matrices that one batched product can compute."""
  return module.spec.one_layer, module.shard, module.param_dtype


def _materialize(group: Sequence[linear.Linear]) -> None:
  """Makes matrices of one spec dense."""
  spec = group[0].spec.one_layer
  layers = [_layers(module) for module in group]
  factors = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *layers)
  full = jax.vmap(spec.full)(factors)
  if group[0].shard is not None:
    full = partition.shard(full, 1 if group[0].shard == 'rows' else 2)
  # The gradient of a split is one concatenation; that of a slice would be an
  # array of all matrices per slice.
  parts = jax.lax.split(full, [_count(module) for module in group])
  for module, part in zip(group, parts, strict=True):
    _become_dense(module, part)


def _become_dense(
  module: linear.Linear, matrices: Float[Array, 'layers rows cols']
) -> None:
  spec = dense.Dense(rows=module.spec.rows, cols=module.spec.cols)
  if isinstance(module.spec, stacked.Stacked):
    module.become(stacked.Stacked.of(spec, len(matrices)), {'matrix': matrices})
  else:
    module.become(spec, {'matrix': matrices[0]})
