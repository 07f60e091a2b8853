"""Operations and bytes of programs against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tt_compress.planning import work

PRODUCT = 2 * 32 * 64 * 64
LAYERS = jnp.ones((6, 64, 64))


def layers(x):
  return lax.scan(lambda x, matrix: (x @ matrix, None), x, LAYERS)[0]


def repeated(x):
  return lax.scan(lambda x, _: (layers(x), None), x, length=5)[0]


def branches(x):
  return lax.cond(x[0, 0] > 0, layers, lambda x: x @ LAYERS[0], x)


def until(x):
  step = lambda x: layers(x) @ LAYERS[0]
  return lax.while_loop(lambda x: jnp.sum(x) < 100, step, x)


@pytest.mark.parametrize(
  'function, products',
  [(layers, 6), (repeated, 30), (branches, 6), (until, 7)],
)
def test_loops_count_their_iterations(function, products):
  compiled = jax.jit(function).lower(jnp.ones((32, 64))).compile()
  found = work.count(compiled.as_text())
  assert found['flops'] == pytest.approx(products * PRODUCT, rel=0.02)
  # Each product reads a matrix and an array and writes an array.
  least = 4 * products * (64 * 64 + 2 * 32 * 64)
  assert least <= found['bytes'] < 4 * least


LIBRARY = """HloModule step

%body (p: (s32[], f32[24,64])) -> (s32[], f32[24,64]) {
  %p = (s32[], f32[24,64]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[24,64]{1,0} get-tuple-element(%p), index=1
  %w = f32[64,64]{1,0} constant({...})
  %gemm = (f32[24,64]{1,0}, s8[1024]{0}) custom-call(%x, %w), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],\
"rhs_contracting_dimensions":["0"]}}}
  %y = f32[24,64]{1,0} get-tuple-element(%gemm), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %t = (s32[], f32[24,64]{1,0}) tuple(%next, %y)
}

%condition (q: (s32[], f32[24,64])) -> pred[] {
  %q = (s32[], f32[24,64]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: f32[24,64]) -> f32[24,64] {
  %a = f32[24,64]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[24,64]{1,0}) tuple(%zero, %a)
  %loop = (s32[], f32[24,64]{1,0}) while(%start), condition=%condition, \
body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %out = f32[24,64]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_products_of_libraries_count():
  found = work.count(LIBRARY)
  assert found['flops'] == pytest.approx(5 * 2 * 24 * 64 * 64, rel=0.01)
