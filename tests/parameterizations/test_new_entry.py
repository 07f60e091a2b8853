"""A new factorization is one file and one line, and that is all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parameterizations import contract
from tt_compress import parameterizations
from tt_compress.nn import compress, embed
from tt_compress.parameterizations import base


# The file.
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockDiagonal(base.Parameterization):
  """W is zero but for equal blocks on its diagonal: {'blocks': [n, r, c]}."""

  num_blocks: int

  def init(self, key, *, std, dtype=jnp.float32):
    n = self.num_blocks
    shape = n, self.rows // n, self.cols // n
    # One entry in n is not zero.
    return {'blocks': std * n**0.5 * jax.random.normal(key, shape, dtype)}

  def full(self, factors):
    return jax.scipy.linalg.block_diag(*factors['blocks'])

  def fit(self, matrix):
    matrix, n = self._check_matrix(matrix), self.num_blocks
    blocks = matrix.reshape(n, self.rows // n, n, self.cols // n)
    diagonal = np.moveaxis(np.diagonal(blocks, axis1=0, axis2=2), -1, 0)
    return {'blocks': jnp.asarray(diagonal, jnp.float32)}


@pytest.fixture(autouse=True)
def line(monkeypatch):
  # The line.
  monkeypatch.setitem(
    parameterizations.REGISTRY, 'block_diagonal', BlockDiagonal
  )


def test_it_keeps_the_contract():
  spec = parameterizations.make('block_diagonal', 24, 16, num_blocks=4)
  contract.check_all(spec)


def test_it_goes_into_any_model():
  model = nnx.Sequential(
    nnx.Linear(24, 16, rngs=nnx.Rngs(0)), nnx.Linear(16, 8, rngs=nnx.Rngs(1))
  )
  rule = ('layers/0', dict(name='block_diagonal', num_blocks=4))
  report = compress.compress(model, (rule,), nnx.Rngs(2), fit=True)
  assert [swap.spec.num_params for swap in report.swapped] == [24 * 16 // 4]
  with jax.numpy_rank_promotion('allow'):  # for Flax's biases
    assert model(jnp.ones((3, 24))).shape == (3, 8)


def test_its_options_are_checked_like_those_of_the_others():
  with pytest.raises(ValueError, match="did you mean 'num_blocks'"):
    parameterizations.make('block_diagonal', 24, 16, num_block=4)


def test_it_has_its_own_initialization_alone():
  make = lambda method: parameterizations.make(
    'block_diagonal', 24, 16, num_blocks=4, initialization=method
  )
  assert make('frobenius').num_params == 24 * 16 // 4
  message = "BlockDiagonal has no initialization='spectral'.* leave it out"
  with pytest.raises(ValueError, match=message):
    make('spectral')
  # A layer has a role, of which this `init` does not know.
  table = embed.Embed(24, 16, spec=make(None), rngs=nnx.Rngs(0))
  assert table(jnp.array([3])).shape == (1, 16)
