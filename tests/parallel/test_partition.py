"""Arrays are sharded on a mesh and unchanged without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests.parameterizations import contract
from tt_compress.algebra import context, contractions
from tt_compress.parallel import partition

SHAPES = (1, 4, 4, 16), (16, 4, 4, 16), (16, 4, 4, 1)


def on_mesh(function, x):
  """The compiled function inside of a `jax.shard_map` over the data."""
  mesh = jax.make_mesh(
    (2, 4), ('data', 'model'), axis_types=2 * (AxisType.Auto,)
  )
  data = PartitionSpec('data')
  sharded = jax.shard_map(
    function, mesh=mesh, in_specs=data, out_specs=data, axis_names={'data'}
  )
  return jax.jit(sharded).lower(x).compile(contract.COMPILER)


@pytest.mark.parametrize('size, local', [(8, 2), (6, 6)])
def test_an_axis_that_the_devices_divide_is_sharded(size, local):
  x = np.ones((4, size, 3), np.float32)
  sines = lambda x: jnp.sin(partition.shard(x, -2))
  program = on_mesh(sines, x)
  np.testing.assert_allclose(program(x), np.sin(x), rtol=1e-6)
  assert f'f32[2,{local},3]' in program.as_text()
  assert (f'f32[2,{size},3]' in program.as_text()) == (local == size)


def test_sides_without_a_mesh_are_none():
  assert partition.size() == 1
  with context.use(side='rows'):
    assert context.current().side is None
    assert partition.shard(1.0, 0) == 1.0


def test_contractions_of_sides():
  found = {}

  def record(x):
    assert partition.size() == 4
    for side in ('rows', 'cols'):
      with context.use(side=side):
        found[side] = contractions.candidates(SHAPES, 4096)
    found[None] = contractions.candidates(SHAPES, 4096)
    found['lookup'] = contractions.for_rows(SHAPES, 4096)
    return x

  on_mesh(record, np.ones((4, 2), np.float32))
  assert set(found[None]) == set(contractions.candidates(SHAPES, 4096))
  # Slices of the first core alone are what devices exchange.
  assert found['lookup'].groups[0] == (0, 1)
  assert contractions.for_rows(SHAPES, 4096).groups == ((0, 3),)
  for side in ('rows', 'cols'):
    walks = [each for each in found[side] if len(each.groups) > 1]
    assert {each.from_left for each in walks} == {side == 'cols'}
    whole = [each for each in found[side] if len(each.groups) == 1]
    assert {each.blocks for each in whole} == {1}
    assert set(found[side]) < set(found[None])
