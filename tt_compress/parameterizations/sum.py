"""A matrix that is the sum of others."""

import dataclasses
import functools
import itertools
import operator
import zlib
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from tt_compress.algebra import context
from tt_compress.parameterizations import base, checks, composed, random_factors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum(composed.Composed):
  """W = W_0 + W_1 + ..., each a matrix of a parameterization of its own.

  factors = {'part_0': factors of the first part, 'part_1': ...}. Low rank and
  pruned parts are LoSparse; a frozen part and a trained one that starts at zero
  are an adapter, LoRA if it has low rank.

  Attributes:
    parts: the other specs, of the same rows and cols.
    sweeps: how often `fit` fits every part. With more than one, parts are
      fitted again to the matrix without all others, as in LoftQ.

  Complexity: that of the products of all parts.

  Reference: Li et al., "LoSparse: Structured Compression of Large Language
    Models based on Low-Rank and Sparse Approximation", equation 2; Hu et al.,
    "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; Li et
    al., "LoftQ: LoRA-Fine-Tuning-Aware Quantization for Large Language Models",
    algorithm 1.
  """

  parts: tuple[base.Parameterization, ...]
  sweeps: int = 1

  def __post_init__(self):
    super().__post_init__()
    self._set('parts', tuple(map(self._initialized, self.parts)))
    self._set('sweeps', checks.positive_int('sweeps', self.sweeps))
    if not self.parts:
      raise ValueError('a sum needs parts, got none')
    noisy = [spec for spec in self.parts if spec.has_noise]
    if len({spec.draws_per_example for spec in noisy}) > 1:
      raise ValueError(
        'some parts of the sum draw noise for each example, others once per '
        'call; wrap the sum in one variational_dropout instead'
      )

  @property
  def components(self):
    return {f'part_{k}': spec for k, spec in enumerate(self.parts)}

  @classmethod
  def within(cls, max_params, **options):
    raise ValueError(
      'a sum has no single rank, so its size cannot be chosen; give a rank, '
      'compression_ratio or max_params to its parts'
    )

  def init(self, key, *, std, dtype=jnp.float32, role='product'):
    """Independent parts, frozen ones included, whose variances add to std^2.

    With n parts that do not start at zero, each of these is that of a layer of
    std / sqrt(n).
    """
    shares = sum(not _is_zero(spec, role) for spec in self.parts)
    std = checks.deviation(std) / max(1, shares) ** 0.5

    def draw(spec, key):
      return random_factors.initialize(
        spec, key, std=std, dtype=dtype, role=role
      )

    keys = jax.random.split(key, len(self.parts))
    return dict(zip(self.components, map(draw, self.parts, keys), strict=True))

  def method(self, role):
    """Zero if all parts are; every part has a method of its own."""
    is_zero = all(_is_zero(spec, role) for spec in self.parts)
    return 'zero' if is_zero else 'frobenius'

  def at_zero(self):
    parts = tuple(spec.at_zero() for spec in self.parts)
    return dataclasses.replace(self, initialization='zero', parts=parts)

  def full(self, factors):
    return _total(
      spec.full(factors[name]) for name, spec in self.components.items()
    )

  def take(self, factors, ids, *, key=None):
    return self._products('take', factors, ids, key)

  def apply(self, factors, x, *, key=None):
    return self._products('apply', factors, x, key)

  def attend(self, factors, x, *, key=None):
    return self._products('attend', factors, x, key)

  def makes_full(self, factors, tokens):
    return any(
      spec.makes_full(factors[name], tokens)
      for name, spec in self.components.items()
    )

  def row_blocks(self, factors, count):
    """Sums of the blocks of the parts, if these have the same rows."""
    pairs = [
      spec.row_blocks(factors[name], count)
      for name, spec in self.components.items()
    ]
    shapes = {
      jax.eval_shape(jax.vmap(make), each).shape for make, each in pairs
    }
    if len(shapes) > 1:
      return super().row_blocks(factors, count)
    makers, slices = zip(*pairs, strict=True)
    make_block = lambda pieces: _total(map(operator.call, makers, pieces))
    return make_block, slices

  def partitions(self, side):
    return {
      f'{name}/{path}': axis
      for name, spec in self.components.items()
      for path, axis in spec.partitions(side).items()
    }

  def bare(self, factors):
    """W itself if some part is a plain matrix, which then costs no more."""
    bare = [spec.bare(factors[name]) for name, spec in self.components.items()]
    for spec, _ in bare:
      if composed.is_matrix(spec):
        return spec, {'matrix': self.full(factors)}
    return self._of(bare)

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    return self._of(
      spec.prepared(factors[name], tokens, dtype, transposed=transposed)
      for name, spec in self.components.items()
    )

  def penalty(self, factors):
    return _total(
      spec.penalty(factors[name]) for name, spec in self.components.items()
    )

  def fit(self, matrix):
    """Each part in turn is fitted to what the parts before it leave.

    A part that starts at zero, if not all parts do, or for which nothing is
    left, gets factors of the zero matrix that gradients can move.
    """
    return self._fit_parts(matrix, lambda spec, rest: spec.fit(rest))

  def fit_products(self, matrix, weights):
    return self._fit_parts(
      matrix, lambda spec, rest: spec.fit_products(rest, weights)
    )

  def _fit_parts(
    self,
    matrix: base.Matrix,
    fit: Callable[[base.Parameterization, np.ndarray], base.Factors],
  ) -> base.Factors:
    matrix = self._check_matrix(matrix)
    factors, fulls = {}, dict.fromkeys(self.components, 0.0)
    for _ in range(self.sweeps):
      for name, spec in self.components.items():
        others = sum(full for other, full in fulls.items() if other != name)
        factors[name] = self._fit_part(spec, matrix - others, matrix, fit)
        fulls[name] = np.asarray(spec.full(factors[name]), np.float64)
    return factors

  def _fit_part(
    self,
    spec: base.Parameterization,
    rest: Float[np.ndarray, 'rows cols'],
    matrix: Float[np.ndarray, 'rows cols'],
    fit: Callable[[base.Parameterization, np.ndarray], base.Factors],
  ) -> base.Factors:
    """Factors of a part for what the other parts leave of the matrix."""
    # What rounding leaves is not worth the rank of a part.
    tiny = np.finfo(np.float32).eps * np.linalg.norm(matrix)
    skips = _is_zero(spec) and not _is_zero(self)
    if not skips and np.linalg.norm(rest) > tiny:
      return fit(spec, rest)
    # Other matrices have other random numbers.
    key = jax.random.key(zlib.crc32(matrix.tobytes()))
    size = float(np.sqrt(np.mean(np.square(matrix))))
    std = size or self.rows**-0.5
    return spec.at_zero().init(key, std=std)

  def _products(
    self,
    method: str,
    factors: base.Factors,
    argument: Num[Array | np.ndarray, '...'],
    key: base.Keys,
  ) -> Float[Array, '...']:
    """The sum of what a method of every part returns."""
    keys, records, terms = self._keys(key), [], []
    for name, spec in self.components.items():
      product = getattr(spec, method)
      records.append([])
      with context.use(record=records[-1]):
        terms.append(product(factors[name], argument, key=keys[name]))
    record = context.current().record
    # The cost of the sum is known if that of every part is.
    if record is not None and all(records):
      record.extend(itertools.chain(*records))
    return _total(terms)

  def _keys(self, key: base.Keys) -> dict[str, base.Keys]:
    """A key for each part, or one key per example for each."""
    if key is None:
      return dict.fromkeys(self.components)
    split = functools.partial(jax.random.split, num=len(self.parts))
    keys = jax.vmap(split, out_axes=1)(key) if key.ndim else split(key)
    return dict(zip(self.components, keys, strict=True))

  def _of(
    self, pairs: Iterable[tuple[base.Parameterization, base.Factors]]
  ) -> tuple[base.Parameterization, base.Factors]:
    """The sum of pairs of a spec and its factors, as such a pair."""
    specs, factors = zip(*pairs, strict=True)
    spec = dataclasses.replace(self, parts=specs)
    return spec, dict(zip(self.components, factors, strict=True))


def _is_zero(spec, role='product'):
  return spec.method(role) == 'zero'


def _total(terms):
  return functools.reduce(operator.add, terms)
