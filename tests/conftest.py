"""Fixtures of the whole suite, and eight host devices for sharded tests."""

import jax

# Before anything asks for devices: afterwards their number is fixed.
jax.config.update('jax_num_cpu_devices', 8)

import pytest  # noqa: E402


@pytest.fixture
def key():
  return jax.random.key(0)
