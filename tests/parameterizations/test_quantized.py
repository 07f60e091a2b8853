import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract, wrappers


def rounded(array, bits, per):
  """The definition, in float64."""
  array = np.asarray(array, np.float64)
  axes = tuple(range(array.ndim - 1)) if per == 'column' else None
  scale = np.abs(array).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
  return scale * np.round(array / scale)


@pytest.mark.parametrize('per', ['array', 'column'])
@pytest.mark.parametrize('bits', [2, 3, 4, 5, 8])
def test_weights_are_rounded_and_packed(key, bits, per):
  spec = wrappers.make('quantized', 'tensor_train', bits=bits, per=per)
  factors = contract.initialize(spec)(key)
  expected = {
    name: rounded(array, bits, per) for name, array in factors['base'].items()
  }
  packed = wrappers.jit(spec.pack)(factors)
  effective = wrappers.jit(spec._effective)(factors)
  unpacked = wrappers.jit(spec.unpack)(packed)
  num_bytes = 0
  for name, array in expected.items():
    np.testing.assert_allclose(effective[name], array, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(unpacked[name], effective[name])
    assert packed[name]['codes'].dtype == jnp.uint8
    assert packed[name]['codes'].size == -(-array.size * bits // 8)
    scales = array.shape[-1] if per == 'column' else 1
    assert packed[name]['scales'].size == scales
    num_bytes += packed[name]['codes'].nbytes + packed[name]['scales'].nbytes
    assert len(np.unique(unpacked[name])) <= scales * (2**bits - 2) + 1
  _, stored = spec.stored_size(factors)
  # But for the bits that fill the last byte of an array.
  assert 0 <= 8 * num_bytes - stored < 8 * len(packed)


def test_packing_keeps_dtypes_buffers_and_zeros(key):
  spec = wrappers.make('quantized', 'word2ket', bits=4)
  factors = spec.init(key, std=1.0, dtype=jnp.bfloat16)
  # One compiled, the other not.
  packed = wrappers.jit(spec.pack)(factors)
  unpacked = spec.unpack(packed, dtype=jnp.bfloat16)
  # The biases of the norm are zeros, whose scale is zero.
  contract.close(unpacked, spec._effective(factors), 0)
  contract.close(unpacked['scale'], factors['base']['scale'], 0)
  assert np.all(np.asarray(unpacked['norms']['node_0_2']['bias']) == 0)


def test_a_gradient_passes_the_rounding():
  """It is that of the base at the rounded weights."""
  spec, factors = wrappers.draw('quantized', 'tensor_train')
  loss = lambda spec, f: jnp.sum(jnp.sin(spec.full(f)))
  ours = jax.grad(lambda f: loss(spec, f))(factors)['base']
  at = spec._effective(factors)
  contract.close(ours, jax.grad(lambda f: loss(spec.base, f))(at), 1e-6)
