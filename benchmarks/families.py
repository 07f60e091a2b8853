"""One way each to write a matrix at a given size, to compare their fits.

Sizes are those of a file: arrays in float32, codes in their bits, positions of
the entries that are not zero.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

_BITS = 32
Options = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Family:
  """A parameterization with all options but its size.

  Attributes:
    name: in tables.
    options: of `parameterizations.make`, for a number of times smaller; raises
      a ValueError if the family has no such size.
    is_layer: whether vectors can be multiplied with its matrices.
    fits_products: whether a fit by the error of products is another one.
  """

  name: str
  options: Callable[[float], Options]
  is_layer: bool = True
  fits_products: bool = True


def _factors(title, name, is_layer=True, **options):
  sized = lambda ratio: dict(name=name, compression_ratio=ratio, **options)
  return Family(title, sized, is_layer)


def _rounded(ratio):
  bits = round(_BITS / ratio)
  if bits > 8:
    raise ValueError(f'{_BITS / ratio:g} bits are more than 8')
  return dict(
    name='quantized', base=dict(name='dense'), bits=bits, per='column'
  )


def _rounded_low_rank(ratio):
  rest = ratio * 8 / _BITS
  if rest < 1:
    raise ValueError('8 bits alone are smaller')
  return dict(
    name='quantized',
    base=dict(name='low_rank', compression_ratio=rest),
    bits=8,
    per='column',
  )


def _pruned(ratio):
  # An entry that is kept has its 32 bits, and each entry one of a mask.
  kept = (_BITS / ratio - 1) / _BITS
  return dict(name='pruned', base=dict(name='dense'), sparsity=1 - kept, end=1)


FAMILIES = (
  _factors('low rank', 'low_rank'),
  Family('low rank in 8 bits', _rounded_low_rank),
  Family('quantized', _rounded, fits_products=False),
  Family('pruned', _pruned, fits_products=False),
  _factors('train of 2 cores', 'tensor_train', num_modes=2),
  _factors('train of 3 cores', 'tensor_train', num_modes=3),
  _factors('nonlinear train', 'nonlinear_train', is_layer=False, num_modes=2),
  _factors('ring of 3 cores', 'tensor_ring', num_modes=3),
  _factors('Tucker, 2 + 2 modes', 'tucker', num_modes=2),
  _factors('Kronecker', 'kronecker'),
  _factors('block train', 'block_tensor_train'),
  _factors('Monarch', 'monarch'),
  _factors('word2ket, order 2', 'word2ket', order=2, norm='none'),
  _factors('word2ket, order 3', 'word2ket', order=3, norm='none'),
  _factors('word2ketXS, order 2', 'word2ketxs', order=2),
  _factors('word2ketXS, order 3', 'word2ketxs', order=3),
  _factors('PHM', 'phm'),
)
