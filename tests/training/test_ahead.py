"""Programs are compiled once, in the order of their use, before the calls."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import compilations
from tt_compress.algebra import context
from tt_compress.training import ahead

STATE = jax.ShapeDtypeStruct((), jnp.float32)


def batch(size):
  return {'inputs': jnp.ones((size, 3)), 'positions': jnp.arange(size)}


def test_calls_find_what_threads_have_compiled():
  seen = []

  def advance(state, batch):
    seen.append((context.current().backend, threading.get_ident()))
    return state + jnp.sum(batch['inputs']), jnp.max(batch['positions'])

  update = jax.jit(advance, donate_argnums=0)
  with (
    compilations.count('advance') as found,
    context.use(backend='tpu'),
    ahead.Programs(update, STATE) as programs,
  ):
    programs.begin(batch(4))
    programs.begin(batch(2))
    for size in (4, 2, 5):  # One more than was announced.
      programs.wait(batch(size))
      assert programs.is_ready(batch(size))
      state, last = update(jnp.float32(1), batch(size))
      assert (state, last) == (1 + 3 * size, size - 1)
  assert found == {'traced': 3, 'compiled': 3}
  # Code is traced for the machine of the run, in threads.
  assert {backend for backend, _ in seen} == {'tpu'}
  assert threading.get_ident() not in {thread for _, thread in seen}


def test_a_call_raises_what_a_thread_could_not_compile():
  def fails(state, batch):
    raise ArithmeticError('no such product')

  update = jax.jit(fails)
  with ahead.Programs(update, STATE) as programs:
    programs.wait(batch(2))
    with pytest.raises(ArithmeticError, match='no such product'):
      update(jnp.float32(1), batch(2))


def test_an_end_drops_programs_that_were_not_begun():
  begun, released = threading.Event(), threading.Event()
  sizes = []

  def slow(state, batch):
    sizes.append(batch['inputs'].shape[0])
    begun.set()
    released.wait()
    return state

  with ahead.Programs(jax.jit(slow), STATE) as programs:
    for size in range(1, 20):
      programs.begin(batch(size))
    assert begun.wait(60)
    assert not programs.is_ready(batch(1))
  released.set()
  programs.wait(batch(1))
  assert sizes[0] == 1 and len(sizes) < 19


def test_the_size_of_a_batch():
  assert ahead.size(batch(7)) == '7x3'
  assert ahead.size({'positions': np.arange(3)}) == '3'
