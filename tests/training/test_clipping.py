import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tt_compress.training import clipping

GRADIENTS = {'a': jnp.arange(6.0).reshape(2, 3), 'b': jnp.full(4, -2.0)}


@pytest.mark.parametrize('max_norm', [0.5, 8.0, 9.0])  # The norm is 71^0.5.
def test_it_is_that_of_optax(max_norm):
  found, expected = (
    make(max_norm).update(GRADIENTS, optax.EmptyState())[0]
    for make in (clipping.by_global_norm, optax.clip_by_global_norm)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
  )


def test_it_chooses_between_numbers():
  update = jax.jit(clipping.by_global_norm(1.0).update)
  program = update.lower(GRADIENTS, optax.EmptyState()).as_text()
  [choice] = [line for line in program.splitlines() if '.select' in line]
  assert choice.endswith(': tensor<i1>, tensor<f32>')
