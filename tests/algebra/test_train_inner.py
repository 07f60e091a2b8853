import jax
import jax.numpy as jnp
import pytest

from tests.algebra import test_trains
from tt_compress.algebra import train_inner


@pytest.mark.parametrize('name', test_trains.TRAINS)
def test_inner_products_are_those_of_the_rows(name):
  """Of whole rows and of rows that are cut, for ids that broadcast."""
  cores = test_trains.make_cores(name)
  matrix = test_trains.brute_force(cores)
  rows, cols = matrix.shape
  ids, others = jnp.arange(rows)[:, None], jnp.arange(rows)[::-1]
  sizes = {cols, cols - 1, 1 + cols // 2, 1}

  @jax.jit
  def compute(cores):
    return {
      size: train_inner.of_pairs(cores, ids, others, size) for size in sizes
    }

  for size, ours in compute(test_trains.device_cores(cores)).items():
    part = matrix[:, :size]
    test_trains.close(ours, part @ part[::-1].T)


def test_high_ranks_need_the_rows():
  shapes = lambda rank: ((1, 32, 8, rank), (rank, 32, 8, 1))
  # 2 * 64 r + 64 multiplications for both rows, 16 r^2 + 8 r without them.
  assert not train_inner.needs_rows(shapes(8), 64)
  assert train_inner.needs_rows(shapes(9), 64)
  # A cut in the middle of a digit sums over two boxes.
  assert train_inner.needs_rows(shapes(8), 60)
