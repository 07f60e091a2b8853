import jax
import jax.numpy as jnp
import pytest

from tt_compress.algebra import context, contractions, cost, trains

# Round numbers: 1e9 multiplications, 1e6 bytes to memory, 1e8 in the cache.
MACHINE = cost.Machine(1e9, 1e6, 1e8, cache=1000, start=0.0)
SHAPES = ((1, 8, 16, 4), (4, 8, 16, 4), (4, 16, 16, 1))


def test_a_product_is_its_work_and_what_it_moves():
  model = cost.Model(MACHINE, itemsize=4)
  found = model.product(10, 20, 30)
  read, written = 4 * (10 * 20 + 20 * 30), 4 * 10 * 30
  assert found.operations == 6000
  assert found.bytes == found.memory == read + written
  # What is written does not fit in the cache.
  assert found.seconds == pytest.approx(6000 / 1e9 + read / 1e8 + written / 1e6)


def test_what_fits_in_the_cache_is_written_faster():
  model = cost.Model(MACHINE, itemsize=4)
  assert model.copy(250).seconds == pytest.approx(2000 / 1e8)
  assert model.copy(251).seconds > 20 * model.copy(250).seconds


def test_costs_add_up():
  model = cost.Model(MACHINE, itemsize=2)
  small, large = model.copy(10), model.product(5, 6, 7)
  total = 3 * small + large
  assert total.operations == 210
  assert total.bytes == 3 * small.bytes + large.bytes
  assert total.memory == large.memory
  assert total.seconds == pytest.approx(3 * small.seconds + large.seconds)


def test_operations_of_a_walk_are_those_of_its_program():
  """Multiplications of the forward pass: predicted, and by the compiler."""
  x = jax.ShapeDtypeStruct((32, 1024), jnp.float32)
  cores = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in SHAPES]
  for each in contractions.candidates(SHAPES, 32, gradients=False):
    if each.blocks > 1:  # a compiler counts the body of a loop once
      continue
    product = lambda cores, x, each=each: trains.follow(each, cores, x)
    compiled = jax.jit(product).lower(cores, x).compile()
    operations = compiled.cost_analysis()['flops'] / 2
    assert each.cost.operations == pytest.approx(operations, rel=0.01), each


def test_another_machine_chooses_another_way():
  fast = cost.Machine(1e15, 1e9, 1e9, cache=2**30, start=0.0)
  slow = cost.Machine(1e6, 1e15, 1e15, cache=2**30, start=0.0)
  chosen = []
  for machine in (fast, slow):
    with context.use(machine=machine):
      chosen.append(contractions.for_apply(SHAPES, 2048))
  # Free multiplications: what moves least. Free traffic: the fewest of them.
  assert chosen[0].cost.bytes < chosen[1].cost.bytes
  assert chosen[0].cost.operations > chosen[1].cost.operations
  assert context.current().machine is cost.MACHINES['cpu']


@pytest.mark.parametrize(
  'restriction, count', [('cores', 3), ('two', 2), ('full', 1)]
)
def test_a_way_can_be_asked_for(restriction, count):
  for tokens in (1, 4096):
    each = contractions.for_apply(SHAPES, tokens, restriction=restriction)
    assert len(each.groups) == count
    assert (
      len(contractions.for_rows(SHAPES, tokens, restriction=restriction).groups)
      == count
    )


def test_contractions_that_are_traced_are_recorded():
  x = jax.ShapeDtypeStruct((5, 1024), jnp.float32)
  cores = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in SHAPES]
  found = []
  with context.use(record=found):
    jax.eval_shape(trains.apply, cores, x)
  assert found == [contractions.for_apply(SHAPES, 5)]
