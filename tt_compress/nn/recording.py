"""A dense copy of a model that records what its matrices multiply."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress.nn import compress, fitting, modules, recorded, stack
from tt_compress.parameterizations import stacked

Call = Callable[[nnx.Module, Any], Any]
Moments = dict[str, dict[str, np.ndarray]]
_PAIR = 'pair'


class Recording:
  """The moments of all matrices of a model that rules match.

  With `is_paired`, the model is run twice at the same time, with the matrices
  that it has and with those of `replace`; both have the same inputs.

  Attributes:
    paths: {path of a matrix in the copy: its path in a report of `compress`}.
    used: {path in a report: (side, number of vectors or ids) of each use of the
      matrix in the first batch}, in the order of use. The body of a loop counts
      once.

  Args:
    model: any Flax NNX model; it is left as it is.
    rule_list: as of `compress.compress`.
    call: see `calibration.Calibration`.
    batches: of it.
    is_paired: see above.

  Raises:
    ValueError: there are no batches, or the first one does not run.
  """

  def __init__(
    self,
    model: nnx.Module,
    rule_list: fitting.Rules,
    call: Call,
    batches: Sequence[Any],
    is_paired: bool = False,
  ):
    _check_batches(batches)
    self._batches = batches
    twin, self.paths = dense_twin(model, rule_list)
    found = modules.matrices(twin)
    self._is_paired = is_paired
    axis = _PAIR if is_paired else None
    for path in self.paths:
      recorded.record(found[path], path, axis)
    self._specs = {path: found[path].spec for path in self.paths}
    graphdef, moments, rest = nnx.split(twin, _is_moment, ..., graph=True)
    moments, rest = nnx.to_pure_dict(moments), nnx.to_pure_dict(rest)
    uses = _uses(graphdef, call, moments, rest, batches[0])
    self.used = {}
    for path, side, count in uses:
      self.used.setdefault(self.paths[path], []).append((side, count))
      _allocate(at(moments, path), self._specs[path], side)
    self._moments = moments
    run = functools.partial(_moments, graphdef, call)
    if is_paired:
      rest = jax.tree.map(lambda a: jnp.stack([a, a]), rest)
      run = jax.vmap(run, (None, 0, None), axis_name=_PAIR)
    self._rest = rest
    self._run = jax.jit(run)

  def uses(self, path: str) -> list[tuple[str, int]]:
    """(method of a parameterization, number of vectors or ids) of each use."""
    own = next(k for k, report in self.paths.items() if report == path)
    is_table = stacked.first(self._specs[own]).is_table
    method = {'rows': 'take' if is_table else 'apply', 'cols': 'attend'}
    return [(method[side], count) for side, count in self.used.get(path, ())]

  def matrix(self, path: str) -> jax.Array:
    """The matrix of the model, [*stack, rows, cols], by its path in reports."""
    own = next(k for k, report in self.paths.items() if report == path)
    held = at(self._rest, own)['matrix']
    return held[0] if self._is_paired else held

  def replace(self, path: str, matrix: np.ndarray) -> None:
    """Gives the second model another matrix.

    Args:
      path: in a report of `compress`.
      matrix: [*stack, rows, cols].
    """
    for own, report in self.paths.items():
      if report == path:
        held = at(self._rest, own)
        held['matrix'] = held['matrix'].at[1].set(matrix)

  def moments(self) -> dict[str, list[Moments]]:
    """The sums over all batches, those of the second model if there are two.

    Returns:
      {path in a report, for a layer of a stack as in 'blocks/up[3]': for each
      module that holds the matrix, {name of a moment: array}, without those
      that are not used}.

    Raises:
      ValueError: a batch does not run, or something that a matrix is multiplied
        with is not finite.
    """
    total = jax.tree.map(np.zeros_like, self._moments)
    for number, batch in enumerate(self._batches):
      try:
        found = jax.device_get(self._run(self._moments, self._rest, batch))
      except Exception as error:
        raise _does_not_run(number, error) from error
      if self._is_paired:
        found = jax.tree.map(lambda a: a[1], found)
      total = jax.tree.map(np.add, total, found)
      self._check_finite(total, number)
    merged = {}
    for path, report in self.paths.items():
      counts = stacked.counts(self._specs[path])
      for name, own in _layers(at(total, path), report, counts):
        merged.setdefault(name, []).append(
          {side: a for side, a in own.items() if a.size and a.any()}
        )
    return merged

  def _check_finite(self, total, number):
    for path, report in self.paths.items():
      if not all(np.isfinite(a).all() for a in at(total, path).values()):
        raise ValueError(
          f'in batch {number} of the calibration, what {report} is multiplied '
          'with is not finite; check the batch and the model'
        )


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


def _uses(graphdef, call, moments, rest, batch) -> recorded.Uses:
  """The sides of matrices that a batch uses, in order."""

  def run(moments, rest, batch):
    return call(nnx.merge(graphdef, moments, rest, copy=True), batch)

  with recorded.uses() as found:
    try:
      jax.eval_shape(run, moments, rest, batch)
    except Exception as error:
      raise _does_not_run(0, error) from error
  return found


def _check_batches(batches):
  if hasattr(batches, 'shape') or isinstance(batches, Mapping):
    kind = type(batches).__name__
    raise ValueError(
      f'the batches of the calibration are one {kind}; give a list of batches'
    )
  if not batches:
    raise ValueError('the calibration has no batches; give at least one')


def _does_not_run(number, error):
  return ValueError(f'batch {number} of the calibration does not run: {error}')


def _allocate(moments, spec, side):
  counts, shape = stacked.counts(spec), stacked.first(spec).moment_shape(side)
  for name in (side, f'{side}_cross'):
    if name in moments:
      moments[name] = np.zeros((*counts, *shape), np.float32)


def _layers(moments, path, counts):
  """(path, moments) of each layer that shares an array."""
  if not counts:
    yield path, moments
    return
  for number in range(counts[0]):
    own = {name: a[number] for name, a in moments.items() if a.size}
    yield from _layers(own, f'{path}[{number}]', counts[1:])


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
