"""Specs of wrappers over every base, and their factors, for tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from tests.parameterizations import contract
from tt_compress import parameterizations
from tt_compress.parameterizations import base, composed

ROWS, COLS = 24, 16
BASES = {
  'dense': {},
  'low_rank': dict(rank=3, middle=True),
  'tensor_train': dict(tt_rank=3),
  'nonlinear_train': dict(tt_rank=3, between='gated'),
  'tensor_ring': dict(tr_rank=2),
  'block_tensor_train': dict(tt_rank=2),
  'monarch': {},
  'butterfly': {},
  'tucker': dict(tucker_rank=2, num_modes=2),
  'kronecker': dict(rank=2),
  'word2ket': dict(order=2, rank=2, norm='affine'),
  'word2ketxs': dict(order=2, rank=2, norm='none'),
  'phm': dict(n=4),
  'sum': dict(
    parts=(
      dict(name='low_rank', rank=2),
      dict(name='kronecker', rank=2),
    )
  ),
}
PRUNED = dict(sparsity=0.3, end=1)
WRAPPERS = {
  'pruned': PRUNED,
  'quantized': dict(bits=8, per='column'),
  'variational_dropout': dict(every=5),
  'normalized': {},
  'frozen': {},
}


def options(*names):
  """{'name', 'base', ...} of the outermost wrapper."""
  name, *inner = names
  if not inner:
    return dict(name=name, **BASES[name])
  return dict(name=name, base=options(*inner), **WRAPPERS[name])


def make(*names, rows=ROWS, cols=COLS, **changes):
  # Nothing of a frozen matrix is trained, so it is made as a part.
  parts = ({**options(*names), **changes}, dict(name='dense'))
  return parameterizations.make('sum', rows, cols, parts=parts).parts[0]


def disturb(spec, factors):
  """Factors in the middle of training: some are pruned, sigmas differ."""

  def spread(path, array):
    if 'bound' in base.join(path):  # Weights have outgrown it.
      return array / 2
    if 'log_sigma' not in base.join(path):
      return array
    noise = jax.random.normal(jax.random.key(7), array.shape, array.dtype)
    return 2 * noise - 2

  factors = spec.project(factors, jnp.asarray(1))
  return jax.tree_util.tree_map_with_path(spread, factors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disturbed(base.Parameterization):
  """A spec whose factors are disturbed, with masks of numbers.

  The contract differentiates by buffers, too, and truth values have no
  derivative.
  """

  spec: base.Parameterization

  @property
  def buffers(self):
    return self.spec.buffers

  def init(self, key, *, std, dtype=jnp.float32):
    return self._to_numbers(disturb(self.spec, self.spec.init(key, std=std)))

  def fit(self, matrix):
    return self._to_numbers(self.spec.fit(matrix))

  def full(self, factors):
    return self.spec.full(self._from_numbers(factors))

  def take(self, factors, ids, *, key=None):
    return self.spec.take(self._from_numbers(factors), ids)

  def apply(self, factors, x, *, key=None):
    return self.spec.apply(self._from_numbers(factors), x)

  def attend(self, factors, x, *, key=None):
    return self.spec.attend(self._from_numbers(factors), x)

  def _to_numbers(self, factors):
    return jax.tree.map(lambda a: a.astype(jnp.float32), factors)

  def _from_numbers(self, factors):
    like = composed.shapes(self.spec)
    return jax.tree.map(lambda a, b: a.astype(b.dtype), factors, like)


def disturbed(spec):
  return Disturbed(rows=spec.rows, cols=spec.cols, spec=spec)


def jit(function):
  return jax.jit(function, compiler_options=contract.COMPILER)


@functools.cache
def draw(*names):
  spec = make(*names)
  return spec, disturb(spec, contract.initialize(spec)(jax.random.key(0)))
