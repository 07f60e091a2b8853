"""The suite `profile` has all operations of a step, by kinds."""

import collections

import jax
import jax.numpy as jnp
import pytest

from benchmarks import profile, programs


@pytest.fixture(scope='module')
def found():
  def step(key, x):
    x = jnp.sort(x @ x, axis=0) + jax.random.uniform(key, x.shape)
    return jax.lax.fori_loop(0, 3, lambda _, x: x @ x, x)

  x = jnp.ones((64, 64))
  case = profile.Case(
    'a step', lambda: programs.repeated(jax.jit(step), jax.random.key(0), x)
  )
  return list(profile.measure([case], rounds=2))


def test_kernels_in_loops_count(found):
  counts = collections.Counter(
    {record['kind']: record['kernels'] for record in found}
  )
  assert counts['products'] == 4 and counts['scatters'] == 1
  assert counts['random bits'] > 0


def test_shares_of_the_time(found):
  assert sum(record['share'] for record in found) == pytest.approx(1, abs=0.01)
  assert all(record['ms'] > 0 for record in found)
  assert '| a step | products |' in profile.table(found)
