"""Products cost what their factors promise, counted in compiled programs.

Operations and bytes of a program do not depend on how busy the machine is, so
a contraction that becomes slower fails here and not only in a benchmark. What
a product may cost is told by a walk along the factors, in the textbook's order:
its multiplications, and the numbers that it has between two of them.
"""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import pytest

from tt_compress import parameterizations

ROWS, COLS, TOKENS = 512, 2048, 64
FLOAT = 4  # bytes
# Of operations: a plan may merge neighbors, to move less.
MERGING = 2.5
# Of bytes: what one product reads and the next one reads, transposed.
COPIES = 2
# A product has two derivatives.
GRADIENT = 3
MODES = dict(row_modes=(8, 8, 8), col_modes=(8, 16, 16))


def train(*ranks):
  """Cores [R, I, J, S] of a train with MODES."""
  sizes = zip(ranks, *MODES.values(), ranks[1:], strict=False)
  return tuple(sizes)


# Entry, options, and the same matrix as a train of cores [R, I, J, S]: a sum of
# Kronecker products is one of two, and so is a product U V^T.
RANK_2 = ('tensor_train', dict(tt_rank=2, **MODES), train(1, 2, 2, 1))
RANK_16 = ('tensor_train', dict(tt_rank=16, **MODES), train(1, 16, 16, 1))
RANK_64 = ('tensor_train', dict(tt_rank=64, **MODES), train(1, 64, 64, 1))
LOW_RANK = ('low_rank', dict(rank=8), ((1, ROWS, 1, 8), (8, 1, COLS, 1)))
KRONECKER = (
  'kronecker',
  dict(rank=4, row_split=(32, 16), col_split=(32, 64)),
  ((1, 32, 32, 4), (4, 16, 64, 1)),
)
KET = (
  'word2ketxs',
  dict(order=2, rank=2),
  ((1, 23, 46, 2), (2, 23, 46, 1)),
)
SMALL = (RANK_2, LOW_RANK, KRONECKER, KET)


def walk(cores):
  """(multiplications, numbers between the products) of a row x, from the left.

  The state starts as x [I_1 ... I_N]; a core turns R I_k of its entries into
  J_k S, for every J so far and I to come.
  """
  done, left = 1, math.prod(core[1] for core in cores)
  operations, numbers = 0, left
  for r, rows, cols, s in cores:
    left //= rows
    operations += done * left * r * rows * cols * s
    done *= cols
    numbers += done * left * s
  return operations, numbers


def cheapest_walk(cores):
  """That from the end from which there is less to do."""
  mirrored = [(s, rows, cols, r) for r, rows, cols, s in reversed(cores)]
  return min(walk(cores), walk(mirrored))


def expected(work, cores):
  """(multiplications, numbers) of one token."""
  if work == 'take':  # a slice [R, J, S] of every core
    return cheapest_walk([(r, 1, cols, s) for r, _, cols, s in cores])
  if work == 'attend':
    cores = [(r, cols, rows, s) for r, rows, cols, s in cores]
  return cheapest_walk(cores)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a compiled program: operations, bytes of arguments and temporaries."""

  operations: float
  arguments: int
  temporaries: int


def cost(work, name, options, wrong=False, gradient=False):
  """Of `work` with a matrix, or with the full one in its place."""
  spec = parameterizations.make(name, ROWS, COLS, **options)
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  product = getattr(slow(spec) if wrong else spec, work)
  floats = lambda size: jax.ShapeDtypeStruct((TOKENS, size), jnp.float32)
  x, weights = floats(ROWS), floats(COLS)
  if work == 'attend':
    x, weights = weights, x
  if work == 'take':
    x = jax.ShapeDtypeStruct((TOKENS,), jnp.int32)
  loss = lambda factors, x, weights: jnp.sum(product(factors, x) * weights)
  function = lambda factors, x, _: product(factors, x)
  if gradient:
    function = jax.value_and_grad(loss, 0 if work == 'take' else (0, 1))
  compiled = jax.jit(function).lower(factors, x, weights).compile()
  memory = compiled.memory_analysis()
  return Cost(
    compiled.cost_analysis()['flops'],
    memory.argument_size_in_bytes,
    memory.temp_size_in_bytes,
  )


def slow(spec):
  """The same matrix, always multiplied by in full."""
  full = lambda product: lambda factors, x: product(spec.full(factors), x)
  return types.SimpleNamespace(
    take=full(lambda matrix, ids: matrix[ids]),
    apply=full(lambda matrix, x: x @ matrix),
    attend=full(lambda matrix, x: x @ matrix.T),
  )


def excess(found, work, cores, gradient):
  """What of the cost is above its bound, as text."""
  operations, numbers = expected(work, cores)
  most = MERGING * 2 * operations
  room = COPIES * FLOAT * numbers
  if gradient:
    # The loss and its derivative by the result are a few operations an entry.
    most = GRADIENT * most + 6 * COLS
    room *= 2
  over = []
  if found.operations > TOKENS * most:
    over.append(f'operations: {found.operations:.0f} > {TOKENS * most:.0f}')
  if found.temporaries > TOKENS * room:
    over.append(f'bytes: {found.temporaries} > {TOKENS * room}')
  return over


CASES = [
  *(('take', *entry) for entry in (*SMALL, RANK_16)),
  *((work, *entry) for work in ('apply', 'attend') for entry in SMALL),
]


@pytest.mark.parametrize('gradient', [False, True], ids=['forward', 'gradient'])
@pytest.mark.parametrize('work, name, options, cores', CASES)
def test_a_product_costs_what_a_walk_does(work, name, options, cores, gradient):
  found = cost(work, name, options, gradient=gradient)
  assert not excess(found, work, cores, gradient)


@pytest.mark.parametrize('work, name, options, cores', CASES)
def test_the_full_matrix_is_noticed(work, name, options, cores):
  found = cost(work, name, options, wrong=True)
  assert excess(found, work, cores, gradient=False)


@pytest.mark.parametrize('work, name, options, cores', CASES)
def test_less_memory_than_dense(work, name, options, cores):
  """Of loss and gradients: factors and what is kept, beside W and x."""
  ours, dense = (
    cost(work, *entry, gradient=True)
    for entry in ((name, options), ('dense', {}))
  )
  assert ours.arguments + ours.temporaries < dense.arguments + dense.temporaries


def test_a_stack_of_layers_needs_no_more_memory_than_dense():
  """What loops fill must not exist before they start.

  Zeros to be filled by the loops of all layers were once made when the program
  started, 16 MiB a layer here.
  """
  wide = parameterizations.make('tensor_train', ROWS, COLS, tt_rank=2, **MODES)
  narrow = parameterizations.make(
    'tensor_train',
    COLS,
    ROWS,
    tt_rank=2,
    row_modes=MODES['col_modes'],
    col_modes=MODES['row_modes'],
  )
  dense = (
    parameterizations.make('dense', *shape)
    for shape in ((ROWS, COLS), (COLS, ROWS))
  )
  ours, theirs = stack_memory(wide, narrow), stack_memory(*dense)
  assert ours <= 1.06 * theirs


def stack_memory(up, down, layers=4, tokens=4096):
  """Temporaries of the gradients of x + relu(x U) V, `layers` times."""

  def init():
    key = jax.random.key(0)
    pair = [spec.init(key, std=0.1) for spec in (up, down)]
    return [pair] * layers

  def loss(factors, x):
    for of_up, of_down in factors:
      x = x + down.apply(of_down, jax.nn.relu(up.apply(of_up, x)))
    return jnp.sum(x**2)

  x = jax.ShapeDtypeStruct((tokens, up.rows), jnp.float32)
  lowered = jax.jit(jax.grad(loss)).lower(jax.eval_shape(init), x)
  return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('work', ['apply', 'attend'])
def test_high_ranks_cost_one_merge_and_the_dense_product(work):
  """A walk would take 33 times the dense product here."""
  name, options, cores = RANK_64
  rank = options['tt_rank']
  first, second, last = (m * n for _, m, n, _ in cores)
  neighbors = rank**2 * second * min(first, last)
  merging = neighbors + rank * first * second * last
  found = cost(work, name, options)
  dense = TOKENS * ROWS * COLS
  assert found.operations <= 1.01 * 2 * (merging + dense)
