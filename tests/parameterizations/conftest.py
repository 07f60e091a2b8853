"""Layers 0 and 1 must not promote dtypes or ranks in silence."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
  with (
    jax.numpy_dtype_promotion('strict'),
    jax.numpy_rank_promotion('raise'),
  ):
    yield
