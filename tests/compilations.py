"""Counts how often JAX traces and compiles a function."""

import collections
import contextlib

import jax

EVENTS = {
  '/jax/core/compile/jaxpr_trace_duration': 'traced',
  '/jax/core/compile/backend_compile_duration': 'compiled',
}


@contextlib.contextmanager
def count(name):
  """{'traced': ..., 'compiled': ...} of the functions with a name."""
  found = collections.Counter()

  def listen(event, _, fun_name='', **__):
    if event in EVENTS and fun_name in (name, f'jit({name})'):
      found[EVENTS[event]] += 1

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
