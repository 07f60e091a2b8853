"""Bytes that programs send, against programs whose bytes are known."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from tt_compress.planning import hlo, traffic

ROWS, COLS = 3, 16
SIZE = 4 * ROWS * COLS  # bytes on every device


def make_mesh(*shape):
  names = ('data', 'model')[: len(shape)]
  return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))


def compiled(function, mesh):
  """A program that gives every device its own [ROWS, COLS]."""
  spec = PartitionSpec(mesh.axis_names)
  sharded = jax.shard_map(
    function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
  )
  x = jax.ShapeDtypeStruct((ROWS * mesh.size, COLS), jnp.float32)
  return jax.jit(sharded).lower(x).compile().as_text()


def found(function, *shape):
  mesh = make_mesh(*shape)
  return traffic.transfers(compiled(function, mesh), mesh)


def shift(x, axis):
  size = lax.axis_size(axis)
  return lax.ppermute(x, axis, [(i, (i + 1) % size) for i in range(size)])


def exchange(x, axis):
  parts = jnp.stack([x + i for i in range(lax.axis_size(axis))])
  return jnp.sum(lax.all_to_all(parts, axis, 0, 0), 0)


def gather(x, axis):
  return jnp.sum(lax.all_gather(x, axis) ** 2, 0)


def scatter(x, axis):
  parts = jnp.stack([x + i for i in range(lax.axis_size(axis))])
  return lax.psum_scatter(parts, axis)


@pytest.mark.parametrize('axis, members', [('data', 4), ('model', 2)])
@pytest.mark.parametrize(
  'function, kind, parts',
  [
    (lax.psum, 'all-reduce', lambda members: 1),
    (gather, 'all-gather', lambda members: members),
    (scatter, 'reduce-scatter', lambda members: members),
    (exchange, 'all-to-all', lambda members: members),
    (shift, 'collective-permute', lambda members: 1),
  ],
)
def test_one_operation(function, kind, parts, axis, members):
  [only] = found(lambda x: function(x, axis), 4, 2)
  assert only == traffic.Transfer(kind, (axis,), SIZE * parts(members))


def test_a_sum_over_both_axes():
  [only] = found(lambda x: lax.psum(x, ('data', 'model')), 4, 2)
  assert (only.axes, only.bytes) == (('data', 'model'), SIZE)


def test_one_axis():
  [only] = found(lambda x: lax.psum(x, 'data'), 8)
  assert (only.axes, only.bytes) == (('data',), SIZE)


def test_groups_of_one_send_nothing():
  assert found(lambda x: lax.psum(x, 'data'), 1) == []
  assert found(lambda x: lax.psum(x, 'model'), 8, 1) == []


def test_sums_of_several_arrays():
  def function(x):
    a, b = lax.psum((x, x[:1].astype(jnp.int32)), 'data')
    return a + b

  assert traffic.total(found(function, 8)) == SIZE + SIZE // ROWS


def looped(x):
  """15 sums over 'model' and 5 over both axes."""

  def inner(x, _):
    return lax.psum(x, 'model') * 0.3, None

  def outer(x, _):
    x, _ = lax.scan(inner, x, None, length=3)
    return lax.psum(x, ('data', 'model')) * 0.1, None

  return lax.scan(outer, x, None, length=5)[0]


def counted(x):
  """A loop that does not begin with zero: 4 sums over 'data'."""
  step = lambda state: (state[0] - 3, lax.psum(state[1], 'data'))
  return lax.while_loop(lambda state: state[0] > 2, step, (14, x))[1]


@pytest.mark.parametrize(
  'function, sums',
  [
    (looped, {'model': 15 * SIZE, 'data+model': 5 * SIZE}),
    (counted, {'data': 4 * SIZE}),
  ],
)
@pytest.mark.parametrize('is_known', [True, False])
def test_loops_count_as_often_as_they_run(function, sums, is_known):
  mesh = make_mesh(4, 2)
  program = compiled(function, mesh)
  if not is_known:  # compilers for TPUs do not
    program, changes = re.subn('"known_trip_count"', '"unknown"', program)
    assert changes
  transfers = traffic.transfers(program, mesh)
  assert traffic.by_axes(transfers) == sums
  assert traffic.total(transfers) == sum(sums.values())
  assert traffic.total(transfers, 'data') == sum(
    size for name, size in sums.items() if 'data' in name
  )


def test_a_loop_that_data_end_is_refused():
  def function(x):
    step = lambda x: lax.psum(x, 'data') + 1
    return lax.while_loop(lambda x: jnp.sum(x) < 100, step, x)

  with pytest.raises(ValueError, match='number of iterations of .* depends on'):
    found(function, 8)


def test_of_branches_the_largest():
  def function(x):
    sums = lambda parts: (
      lambda x: functools.reduce(
        lambda x, _: lax.psum(x, 'data') * 0.5, range(parts), x
      )
    )
    return lax.switch(jnp.int32(x[0, 0]), [sums(1), sums(3), sums(2)], x)

  assert traffic.total(found(function, 8)) == 3 * SIZE


LINES = """HloModule made_up

%sum (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}}

%wrapped (p: bf16[6]) -> bf16[6] {{
  %p = bf16[6]{{0:T(8,128)(2,1)}} parameter(0)
  ROOT %shifted = bf16[6]{{0}} collective-permute(%p), {pairs}
}}

ENTRY %main (x: f32[2,5], y: bf16[6]) -> f32[2,5] {{
  %x = f32[2,5]{{1,0:T(8,128)}} parameter(0)
  %y = bf16[6]{{0}} parameter(1)
  %s = (f32[2,5]{{1,0}}, f32[8,5]{{1,0}}) all-gather-start(%x), {groups}
  %d = f32[8,5]{{1,0}} all-gather-done(%s)
  %u = ((bf16[6]), bf16[6], u32[]) async-start(%y), calls=%wrapped
  %v = bf16[6]{{0}} async-done(%u), calls=%wrapped
  %q = bf16[2,5]{{1,0}} convert(%x)
  ROOT %r = f32[2,5] all-reduce(%q), replica_groups={{}}, to_apply=%sum
}}
"""


@pytest.mark.parametrize(
  'groups, axes',
  [
    ('[2,4]<=[8]', ('data', 'model')),
    ('[2,4]<=[4,2]T(1,0)', ('data',)),
    ('{{0,2,4,6},{1,3,5,7}}', ('data',)),
    ("mesh['a'=4,'b'=2] {'a'}", ('data',)),
    ("mesh['a'=2,'b'=2,'c'=2] {'b','a'}", ('data',)),
    ("mesh['a'=2,'b'=4] {'b'}", ('data', 'model')),
    ("mesh['a'=1,'b'=4,'c'=2], device_ids=([8]) {'b'}", ('data',)),
    ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", ('data',)),
    ("mesh['a'=2,'b'=4], device_ids=(0,2,4,6,1,3,5,7) {'b'}", ('data',)),
  ],
)
def test_forms_of_other_compilers(groups, axes):
  program = LINES.format(
    groups=f'replica_groups={groups}, dimensions={{0}}',
    pairs='source_target_pairs={{0,1},{1,0}}',
  )
  assert traffic.transfers(program, make_mesh(4, 2)) == [
    traffic.Transfer('all-gather', axes, 4 * 4 * 10),
    traffic.Transfer('collective-permute', ('model',), 2 * 6),
    traffic.Transfer('all-reduce', ('data', 'model'), 4 * 10),
  ]


def test_unknown_groups_are_refused():
  program = LINES.format(groups='replica_groups=@mesh', pairs='')
  with pytest.raises(ValueError, match='s: cannot read .* @mesh'):
    traffic.transfers(program, make_mesh(4, 2))


@pytest.mark.parametrize(
  'shape, size',
  [
    ('f32[]', 4),
    ('pred[3]{0:T(512)}', 3),
    ('f8e4m3fn[3,2]{1,0}', 6),
    ('s4[3]', 2),
    ('(bf16[4]{0}, u64[2]{0}, token[])', 24),
    ('f32[0,4]', 0),
  ],
)
def test_bytes_of_shapes(shape, size):
  assert hlo.num_bytes(shape) == size


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match='no ENTRY'):
    hlo.parse('module @jit_f {}')
