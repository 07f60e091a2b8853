"""Kernels of programs, counted by hand."""

import jax
import jax.numpy as jnp
from jax import lax

from tt_compress.planning import kernels

PROGRAM = """\
HloModule step, is_scheduled=true

%fused_sum (a: f32[8,4]) -> f32[8] {
  %a = f32[8,4]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %sum = f32[8]{0} reduce(%a, %zero), dimensions={1}, to_apply=%add
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %xy = f32[] add(%x, %y)
}

%fused_exp (b: f32[8]) -> f32[8] {
  %b = f32[8]{0} parameter(0)
  ROOT %e = f32[8]{0} exponential(%b)
}

ENTRY %main (p: f32[8,4], q: f32[4,4]) -> f32[8] {
  %p = f32[8,4]{1,0} parameter(0)
  %q = f32[4,4]{1,0} parameter(1)
  %c = (f32[8,4], s8[64]) custom-call(%p, %q), custom_call_target="gemm"
  %r = f32[8,4]{1,0} get-tuple-element(%c), index=0
  %s = f32[8]{0} fusion(%r), kind=kLoop, calls=%fused_sum
  %t = f32[4,8]{1,0} transpose(%r), dimensions={1,0}
  ROOT %u = f32[8]{0} fusion(%s), kind=kLoop, calls=%fused_exp
}
"""


def test_kernels_by_kind():
  assert kernels.count(PROGRAM) == {
    'copies': 1,
    'element-wise': 1,
    'products': 1,
    'reductions': 1,
  }


def test_kernels_of_a_loop_count_once_per_iteration():
  def count(times):
    product = lambda i, x: jnp.dot(x, x)
    function = lambda x: lax.fori_loop(0, times, product, x)
    compiled = jax.jit(function).lower(jnp.ones((64, 64))).compile()
    return kernels.count(compiled.as_text())

  assert count(5)['products'] == 5
  assert count(7)['products'] == 7
