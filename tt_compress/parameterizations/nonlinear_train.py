"""A matrix as a tensor train with a nonlinearity between its cores."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from tt_compress.algebra import blocks, nonlinear_trains
from tt_compress.algebra.fit import nonlinear_train_fit, tt_svd
from tt_compress.parameterizations import base, train_shaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonlinearTrain(train_shaped.TrainShaped):
  """Rows s_N, where s_k = f(s_{k-1}) G_k[i_k] is computed core by core.

  As in a tensor train, i = (i_1, ..., i_N) and j are row-major, s_1 = G_1[i_1],
  and the state s_k has R_k numbers for each (j_1, ..., j_k). What f does to the
  R_{k-1} numbers before core k, by `between`:

    'relu': f(s) = max(s, 0).
    'gated': f(s) = s * (1 + tanh(s H_k[i_k])), entry by entry: the product of
      the state and of a gate, its product with a slice that the digit selects.
      A gate that does not depend on the state could be part of the core.
    'max': f(s) = max(s, c_k[i_k]), with a reference that the digit selects;
      'relu' has the reference 0.

  factors = {'core_0': [1, I_1, J_1, R_1], ..., 'core_{N-1}': [R_{N-1}, I_N,
  J_N, 1]}, and for k = 1 ... N - 1 'gate_k': [I_{k+1}, R_k, R_k] or
  'reference_k': [I_{k+1}, R_k].

  Made for embeddings. `take` computes single rows. Products with a vector have
  no shortcut along the train, so that `apply` and `attend` compute all rows, a
  block at a time: a `Linear` layer works, and takes more time than a dense one.

  Initialization: cores are independent, normal, of variance v_k. Given the
  state, entries of the next one have variance v_k R_{k-1} E f(s)^2, and they
  are symmetric. For symmetric s, E max(s, 0)^2 = E s^2 / 2. For symmetric,
  independent s and c, E max(s, c)^2 = (E s^2 + E c^2) / 2, because min(s, c) is
  -max(-s, -c) and max^2 + min^2 = s^2 + c^2; so references start with the
  variance of the state, and f keeps it. Gates start at 1, by H = 0. Hence Var W
  = prod_k R_k v_k, times 2^(1 - N) for 'relu', and the mean is 0.

  Rates by structure (`optimizer.structure_aware`) are those of the cores; gates
  and references keep the full rate.

  Attributes:
    tt_rank: see `train_shaped.TrainShaped`.
    between: f, see above.

  Complexity: of `take` sum_k J_1 ... J_k R_{k-1} R_k multiplications per id, as
    for a tensor train; 'gated' adds J_1 ... J_{k-1} R_{k-1}^2 per gate.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 6, proposes nonlinearities; Khrulkov et al., "Generalized Tensor
    Models for Recurrent Neural Networks", has maxima in place of products.
  """

  between: nonlinear_trains.Between

  def _largest_rank(self):
    # A ReLU needs one more number to pass any state, see `fit`.
    return super()._largest_rank() + (self.between == 'relu')

  @property
  def num_params(self):
    extras = self._extra_shapes.values()
    return super().num_params + sum(map(math.prod, extras))

  @property
  def lookup_multiplications(self):
    # A gate is a product of a state with all of its slice.
    gates = (
      math.prod(self.col_modes[:k]) * self.tt_rank[k] ** 2
      for k in range(1, self.num_modes)
    )
    plain = super().lookup_multiplications
    return plain + sum(gates) * (self.between == 'gated')

  @property
  def _extra_shapes(self):
    """{name: shape} of the factors besides the cores."""
    sizes = list(enumerate(zip(self.row_modes, self.tt_rank, strict=False)))[1:]
    if self.between == 'gated':
      return {f'gate_{k}': (rows, rank, rank) for k, (rows, rank) in sizes}
    if self.between == 'max':
      return {f'reference_{k}': (rows, rank) for k, (rows, rank) in sizes}
    return {}

  def sequence(self, use):
    # Products cannot start with another core, so that the last is the last.
    return tuple(self.network)

  def _deviations(self, std, method, use):
    kept = 0.5 if self.between == 'relu' else 1.0
    std /= math.sqrt(kept ** (self.num_modes - 1))
    return super()._deviations(std, method, use)

  def _draw(self, key, deviations, dtype):
    factors = super()._draw(key, deviations, dtype)
    keys = jax.random.split(jax.random.fold_in(key, 1), self.num_modes)
    std = 1.0
    for k, (rank, name) in enumerate(
      zip(self.tt_rank, self._extra_shapes, strict=False)
    ):
      std *= deviations[f'core_{k}'] * math.sqrt(rank)
      size = std if self.between == 'max' else 0.0
      shape = self._extra_shapes[name]
      factors[name] = size * jax.random.normal(keys[k], shape, dtype)
    return factors

  def full(self, factors):
    make_block, slices = self._by_blocks(factors)
    matrix = jax.lax.map(jax.checkpoint(make_block), slices)
    return matrix.reshape(-1, self.cols)[: self.rows]

  def _look_up(self, factors, ids):
    return nonlinear_trains.rows(*self._arrays(factors), ids)[:, : self.cols]

  def _apply(self, factors, x):
    return blocks.apply(*self._by_blocks(factors), x)

  def _attend(self, factors, x):
    return blocks.attend(*self._by_blocks(factors), x)[..., : self.rows]

  def row_blocks(self, factors, count):
    make_block, slices = nonlinear_trains.blocks_of_rows(
      *self._arrays(factors), count
    )
    return lambda states: make_block(states)[:, : self.cols], slices

  def _by_blocks(self, factors):
    """(function, slices): blocks of W that need little memory."""
    # States before the last core, of which there is one for each of its digits.
    done = math.prod(self.col_modes[:-1]) * self.tt_rank[-2]
    row_size = max(done, math.prod(self.col_modes))
    return self.row_blocks(factors, blocks.num_blocks(self.rows, row_size))

  def partitions(self, side):
    return {'core_0': 1 if side == 'rows' else 2}

  def fit(self, matrix):
    """Factors of a plain train near the matrix, by TT-SVD.

    With open gates, and with references below all states, f(s) = s. With ReLUs
    the plain train has ranks R_k - 1, since one number of each state is a
    constant, see `nonlinear_train_fit`. Training finds the nonlinearity from
    there.

    Raises:
      ValueError: 'relu' with an inner rank of 1.
    """
    matrix = self._check_matrix(matrix)
    spare = int(self.between == 'relu')
    inner = [rank - spare for rank in self.tt_rank[1:-1]]
    if 0 in inner:
      raise ValueError(
        f"cannot fit a matrix with between='relu' and tt_rank={self.tt_rank}: "
        'one number of each state stays constant, so that inner ranks must be '
        "at least 2; use a higher rank, or between='gated' or 'max'"
      )
    cores = tt_svd.tensor_train(
      matrix, self.row_modes, self.col_modes, (1, *inner, 1)
    )
    extras = [*map(jnp.zeros, self._extra_shapes.values())]
    if self.between == 'relu':
      cores = nonlinear_train_fit.shifted(cores)
    if self.between == 'max':
      extras = nonlinear_train_fit.references(cores)
    named = dict(zip(self._extra_shapes, extras, strict=True))
    factors = train_shaped.name(cores) | named
    return {k: jnp.asarray(array, jnp.float32) for k, array in factors.items()}

  def _arrays(self, factors: base.Factors):
    """The arguments (between, cores, extras) of `nonlinear_trains`."""
    cores = self._cores(factors)
    if self.between == 'relu':
      extras = [core.swapaxes(0, 1)[:, :, 0, :0] for core in cores[1:]]
    else:
      extras = [factors[name] for name in self._extra_shapes]
    if self.between == 'max':
      extras = [extra[..., None] for extra in extras]
    return self.between, cores, extras
