"""The kind of device that programs are traced for."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_override = contextvars.ContextVar('backend', default=None)


def name() -> str:
  """'cpu', 'gpu' or 'tpu'; what JAX runs on unless `use` says otherwise."""
  return _override.get() or jax.default_backend()


@contextlib.contextmanager
def use(chosen: str) -> Iterator[None]:
  """Traces what is inside of it for devices that need not be there."""
  token = _override.set(chosen)
  try:
    yield
  finally:
    _override.reset(token)
