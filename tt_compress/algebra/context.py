"""The context of a trace: facts that the arguments of a function lack.

The fastest way to multiply with a matrix depends on the machine, on whether the
product will be differentiated, and on how the mesh shards it. A traced function
sees none of these in its arguments, so they are read here, at trace time:

  with context.use(backend='tpu', gradients=False):
    jax.eval_shape(model, x)
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from tt_compress.algebra import cost
from tt_compress.parallel import partition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
  """What is traced now runs on this backend and machine, in this role.

  Attributes:
    backend: 'cpu', 'gpu' or 'tpu'; None for the one that JAX runs on.
    machine: constants that contractions are chosen by; None for those of the
      backend.
    gradients: whether products will be differentiated, too.
    side: the side of the matrix that is sharded over the axis 'model'; it has
      no effect without a mesh that has this axis.
    distinct: whether a lookup computes the row of equal ids once; for short
      rows, finding equal ids costs more.
    record: a list that collects the contractions that are chosen, in order.
  """

  backend: str | None = None
  machine: cost.Machine | None = None
  gradients: bool = True
  side: partition.Side | None = None
  distinct: bool = True
  record: list | None = None


_DEFAULT = Context()
_context = contextvars.ContextVar('context', default=_DEFAULT)


def current() -> Context:
  """The context in use, with all fields resolved."""
  found = _context.get()
  backend = found.backend or jax.default_backend()
  return dataclasses.replace(
    found,
    backend=backend,
    machine=found.machine or cost.MACHINES.get(backend, cost.MACHINES['gpu']),
    side=found.side if partition.size() > 1 else None,
  )


@contextlib.contextmanager
def use(**changes: Any) -> Iterator[None]:
  """Changes fields of the context for the code in a block or a function."""
  token = _context.set(dataclasses.replace(_context.get(), **changes))
  try:
    yield
  finally:
    _context.reset(token)
