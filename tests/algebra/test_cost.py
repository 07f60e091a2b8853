import jax
import jax.numpy as jnp
import pytest

from tt_compress.algebra import cost, plans, trains

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
  """Multiplications by the plan and by the compiler, in the forward pass."""
  x = jax.ShapeDtypeStruct((32, 1024), jnp.float32)
  cores = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in SHAPES]
  for plan in plans.ways(SHAPES, 32, gradients=False):
    if plan.blocks > 1:  # a compiler counts the body of a loop once
      continue
    product = lambda cores, x, plan=plan: trains.follow(plan, cores, x)
    compiled = jax.jit(product).lower(cores, x).compile()
    operations = compiled.cost_analysis()['flops'] / 2
    assert plan.cost.operations == pytest.approx(operations, rel=0.01), plan


def test_another_machine_chooses_another_way():
  fast = cost.Machine(1e15, 1e9, 1e9, cache=2**30, start=0.0)
  slow = cost.Machine(1e6, 1e15, 1e15, cache=2**30, start=0.0)
  chosen = []
  for machine in (fast, slow):
    with cost.use(machine):
      chosen.append(plans.for_apply(SHAPES, 2048))
  # Free multiplications: what moves least. Free traffic: the fewest of them.
  assert chosen[0].cost.bytes < chosen[1].cost.bytes
  assert chosen[0].cost.operations > chosen[1].cost.operations
  assert cost.machine() is cost.MACHINES['cpu']


@pytest.mark.parametrize(
  'contraction, count', [('cores', 3), ('two', 2), ('full', 1)]
)
def test_a_way_can_be_asked_for(contraction, count):
  for tokens in (1, 4096):
    plan = plans.for_apply(SHAPES, tokens, contraction=contraction)
    assert len(plan.groups) == count
    assert (
      len(plans.for_rows(SHAPES, tokens, contraction=contraction).groups)
      == count
    )


def test_plans_of_what_is_traced_are_recorded():
  x = jax.ShapeDtypeStruct((5, 1024), jnp.float32)
  cores = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in SHAPES]
  with plans.recorded() as found:
    jax.eval_shape(trains.apply, cores, x)
  assert found == [plans.for_apply(SHAPES, 5)]
