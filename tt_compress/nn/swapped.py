"""The result of `compress`, one line per matrix."""

import dataclasses
from collections.abc import Mapping

from jaxtyping import Array, Float

from tt_compress.parameterizations import base, stacked


@dataclasses.dataclass(frozen=True)
class Swap:
  """One matrix that `compress` replaced.

  Attributes:
    path: of its module; a shared matrix has several, joined by ' = '.
    spec: its new parameterization; `Stacked` for the matrices of many layers.
    error: ||W - full(fit(W))|| / ||W|| if the factors were fitted, else None.
    product_error: the same of the products with W in a calibration; None
      without one, or if it does not use the matrix.
  """

  path: str
  spec: base.Parameterization
  error: float | Float[Array, ''] | None = None
  product_error: float | Float[Array, ''] | None = None

  def __str__(self):
    spec = self.spec
    counts = ''.join(f'{count} x ' for count in stacked.counts(spec))
    frozen = f' and {spec.num_frozen:,} frozen' if spec.num_frozen else ''
    error = '' if self.error is None else f', error {float(self.error):.4f}'
    if self.product_error is not None:
      error += f', of products {float(self.product_error):.4f}'
    ratio = spec.compression_ratio
    larger = ', more than dense' if ratio < 1 and not frozen else ''
    return (
      f'{self.path}: {counts}{spec.rows} x {spec.cols} in '
      f'{spec.num_params:,} numbers{frozen}, ratio {ratio:.2f}{larger}{error}'
    )


@dataclasses.dataclass(frozen=True)
class Report:
  """The result of `compress`.

  Attributes:
    swapped: matrices that were replaced.
    kept: paths of matrices that no rule matches.
    unreached: {path of a weight that no rule reached: the reason}.
  """

  swapped: tuple[Swap, ...]
  kept: tuple[str, ...]
  unreached: Mapping[str, str]

  def __str__(self):
    lines = [str(swap) for swap in self.swapped]
    lines += [f'{path}: kept' for path in self.kept]
    lines += [
      f'{path}: out of reach, {reason}'
      for path, reason in self.unreached.items()
    ]
    return '\n'.join(lines)
