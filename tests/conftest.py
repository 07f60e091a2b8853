"""Fixtures of the whole suite, and eight host devices for sharded tests."""

import os

# For this process and those that tests start: many small programs are faster
# compiled than run well. XLA's passes over a program stay, LLVM's do not.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

import jax  # noqa: E402

# Before anything asks for devices: afterwards their number is fixed.
jax.config.update('jax_num_cpu_devices', 8)

import pytest  # noqa: E402


@pytest.fixture
def key():
  return jax.random.key(0)
