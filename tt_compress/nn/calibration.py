"""What the matrices of a model are multiplied with, from a few batches."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress.algebra import weighting
from tt_compress.nn import compress, fitting, modules, recorded, stack
from tt_compress.parameterizations import stacked

Call = Callable[[nnx.Module, Any], Any]


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Batches on which a compressed model is to give the same outputs.

  `compress(model, rules, rngs, fit=Calibration(batches))` fits matrices by the
  error of their products in these batches. A pass costs about as much as one
  of training: moments are computed by a backward pass, so the products must
  lead to the result of `call` by differentiable operations.

  Attributes:
    batches: arguments of the model; batches of one shape compile one program.
    call: (model, batch) -> arrays of any structure, of which some are floats;
      by default model(batch).
  """

  batches: Sequence[Any]
  call: Call = lambda model, batch: model(batch)

  def weightings(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> dict[str, weighting.Weighting]:
    """The weights of the errors of all matrices that rules match.

    Args:
      model: any Flax NNX model; it is left as it is.
      rule_list: as of `compress`.

    Returns:
      {path of a matrix, as in the report of `compress`: its weights}, without
      matrices that no batch uses.

    Raises:
      ValueError: there are no batches, a batch does not run, or something that
        a matrix is multiplied with is not finite.
    """
    if hasattr(self.batches, 'shape') or isinstance(self.batches, Mapping):
      kind = type(self.batches).__name__
      raise ValueError(
        f'the batches of the calibration are one {kind}; give a list of batches'
      )
    if not self.batches:
      raise ValueError('the calibration has no batches; give at least one')
    twin, paths = dense_twin(model, rule_list)
    found = modules.matrices(twin)
    for path in paths:
      recorded.record(found[path])
    graphdef, moments, rest = nnx.split(twin, _is_moment, ..., graph=True)
    moments = nnx.to_pure_dict(moments)
    run = jax.jit(functools.partial(_moments, graphdef, self.call))
    total = jax.tree.map(np.zeros_like, moments)
    for number, batch in enumerate(self.batches):
      try:
        found = jax.device_get(run(moments, rest, batch))
      except Exception as error:
        raise ValueError(
          f'batch {number} of the calibration does not run: {error}'
        ) from error
      total = jax.tree.map(np.add, total, found)
      _check_finite(total, paths, number)
    found, specs = {}, modules.matrices(twin)
    for path, report_path in paths.items():
      counts = stacked.counts(specs[path].spec)
      new = recorded.weights(at(total, path), report_path, counts)
      for name, weights in new.items():
        # Modules that share a variable have a part of its products each.
        terms = found[name].terms if name in found else ()
        found[name] = weighting.Weighting(terms + weights.terms)
    return {path: weights for path, weights in found.items() if weights.terms}


def dense_twin(
  model: nnx.Module, rule_list: fitting.Rules
) -> tuple[nnx.Module, dict[str, str]]:
  """A copy of a model whose matched matrices are dense `matrix.Matrix`.

  Args:
    model: any Flax NNX model.
    rule_list: as of `compress`; of the options, the axes of variables matter.

  Returns:
    The copy, and {path of a matrix in it: its path in a report of `compress`}.
  """
  twin = nnx.clone(model, graph=True)
  report = compress.compress(
    twin,
    [(pattern, _dense(rule)) for pattern, rule in fitting.pairs(rule_list)],
    fit=True,
  )
  names = {
    path: swap.path
    for swap in report.swapped
    for path in swap.path.split(' = ')
  }
  # The kernel of attention is a matrix below the path of its layer.
  names |= {f'{path}/kernel': name for path, name in names.items()}
  stack.unroll(twin)
  found = modules.matrices(twin)
  return twin, {path: names[path] for path in found if path in names}


def at(tree: Any, path: str) -> dict[str, Any]:
  """The factors of the matrix at a path, in a plain tree of a model."""
  for key in path.split('/'):
    tree = tree[int(key) if key.isdigit() and int(key) in tree else key]
  return tree['factors']


def _dense(rule: Mapping[str, Any]) -> dict[str, Any]:
  axes = {
    name: rule[name] for name in ('row_axes', 'stack_axes') if name in rule
  }
  return {'name': 'dense', **axes}


def _is_moment(path: tuple, variable: Any) -> bool:
  *_, parent, name = ('', '', *path)
  return parent == 'factors' and name in recorded.MOMENTS


def _moments(graphdef, call, moments, rest, batch):
  """The gradients of the moments."""

  def total(moments):
    # Copies, which loops of Flax accept in the trace of the gradient.
    model = nnx.merge(graphdef, moments, rest, copy=True)
    leaves = jax.tree.leaves(call(model, batch))
    arrays = [jnp.asarray(a) for a in leaves]
    floats = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    if not floats:
      raise ValueError(
        'its call returns no array of floats, to which products lead; let it '
        'return logits or a loss'
      )
    return sum(jnp.sum(a.astype(jnp.float32)) for a in floats)

  return jax.grad(total)(moments)


def _check_finite(total, paths, number):
  for path, report_path in paths.items():
    if not all(np.isfinite(a).all() for a in at(total, path).values()):
      raise ValueError(
        f'in batch {number} of the calibration, what {report_path} is '
        'multiplied with is not finite; check the batch and the model'
      )
