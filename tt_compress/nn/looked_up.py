"""Tables whose lookups are recorded, to differentiate these rows alone.

The gradient of a table W is zero but for the rows that were looked up. As an
array it would be as large as W, so W is not differentiated at all: a lookup is
W[ids] + tap for a tap of zeros [ids, cols], whose gradient is that of the rows.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.extend.core
from flax import nnx
from jaxtyping import Array, Float, Int

from tt_compress.nn import modules
from tt_compress.parameterizations import dense

Ids = dict[str, list[Int[Array, ' ids']]]
Taps = Mapping[str, Sequence[Float[Array, 'ids cols']]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table(dense.Dense):
  """A dense matrix that records its lookups and refuses all other products.

  Attributes:
    path: of the matrix in its model.
    ids: of the lookups so far; each lookup appends its own.
    taps: of the lookups, in their order; None adds none.
    trace: of JAX, in which lookups can be recorded.
  """

  path: str
  ids: list[Int[Array, ' ids']]
  taps: Sequence[Float[Array, 'ids cols']] | None
  trace: Any

  # By identity: each trace of a model fills a list of its own.
  __eq__ = object.__eq__
  __hash__ = object.__hash__

  def take(self, factors, ids, *, key=None):
    if _trace() != self.trace:
      raise ValueError(
        f'optimizer.lazy: {self.path} is looked up inside of a loop, a '
        'checkpoint or another transformation of JAX; look its rows up before, '
        'or leave it out of optimizer.lazy'
      )
    found = super().take(factors, ids, key=key)
    self.ids.append(self._row_ids(ids).reshape(-1))
    if self.taps is None:
      return found
    return found + self.taps[len(self.ids) - 1].reshape(found.shape)

  def full(self, factors):
    raise ValueError(
      f'optimizer.lazy names {self.path}, but the loss needs the whole matrix, '
      'as logits that are tied to an embedding do, and has a gradient for all '
      'rows. Leave it out of optimizer.lazy, or give the logits a matrix of '
      'their own (model.tie_logits=False)'
    )


def record(
  model: nnx.Module, paths: Iterable[str], taps: Taps | None = None
) -> Ids:
  """Makes tables of a model record their lookups, in place.

  Args:
    model: whose lookups are to come.
    paths: of dense matrices.
    taps: by path, what each lookup of a table adds; None adds none.

  Returns:
    {path: ids of each lookup}, filled while the model is called.
  """
  found = modules.matrices(model)
  ids = {path: [] for path in paths}
  for path, own in ids.items():
    module = found[path]
    spec = Table(
      rows=module.spec.rows,
      cols=module.spec.cols,
      path=path,
      ids=own,
      taps=taps and taps[path],
      trace=_trace(),
    )
    module.become(spec, module.values())
  return ids


def _trace() -> Any:
  return jax.extend.core.get_opaque_trace_state(convention='nnx')
