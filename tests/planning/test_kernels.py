"""Kernels of programs, counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tt_compress.planning import kernels


def test_kernels_of_a_loop_count_once_per_iteration():
  def count(times):
    product = lambda i, x: jnp.dot(x, x)
    function = lambda x: lax.fori_loop(0, times, product, x)
    compiled = jax.jit(function).lower(jnp.ones((64, 64))).compile()
    return kernels.count(compiled.as_text())

  assert count(5)['products'] == 5
  assert count(7)['products'] == 7


# A loop, branches, calls to libraries and an exchange that is started early.
NESTED = """HloModule made_up

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%gemm (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  %h = bf16[8,8]{1,0} fusion(%p), kind=kLoop, calls=%flipped
  ROOT %d = bf16[8,8]{1,0} dot(%h, %p), lhs_contracting_dims={1}
}

%flipped (p.1: bf16[8,8]) -> bf16[8,8] {
  %p.1 = bf16[8,8]{1,0} parameter(0)
  ROOT %t = bf16[8,8]{1,0} transpose(%p.1), dimensions={1,0}
}

%reduced (p.2: f32[8,8]) -> f32[] {
  %p.2 = f32[8,8]{1,0} parameter(0)
  %z = f32[] constant(0)
  ROOT %r = f32[] reduce(%p.2, %z), dimensions={0,1}, to_apply=%sum
}

%scaled (p.3: bf16[8,8]) -> bf16[8,8] {
  %p.3 = bf16[8,8]{1,0} parameter(0)
  ROOT %m = bf16[8,8]{1,0} multiply(%p.3, %p.3)
}

%body (s: (s32[], bf16[8,8])) -> (s32[], bf16[8,8]) {
  %s = (s32[], bf16[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = bf16[8,8]{1,0} get-tuple-element(%s), index=1
  %y = bf16[8,8]{1,0} fusion(%x), kind=kCustom, calls=%gemm
  %e = bf16[8,8]{1,0} fusion(%y), kind=kLoop, calls=%scaled
  ROOT %n = (s32[], bf16[8,8]{1,0}) tuple(%i, %e)
}

%condition (s.1: (s32[], bf16[8,8])) -> pred[] {
  %s.1 = (s32[], bf16[8,8]{1,0}) parameter(0)
  ROOT %less = pred[] custom-call(%s.1), custom_call_target="unknown"
}

%few (q: bf16[8,8]) -> bf16[8,8] {
  %q = bf16[8,8]{1,0} parameter(0)
  ROOT %few_ = bf16[8,8]{1,0} fusion(%q), kind=kInput, calls=%flipped
}

%many (q.1: bf16[8,8]) -> bf16[8,8] {
  %q.1 = bf16[8,8]{1,0} parameter(0)
  %v = (bf16[8,8], s8[4]) custom-call(%q.1), custom_call_target="__cublas$gemm"
  %u = bf16[8,8]{1,0} get-tuple-element(%v), index=0
  %w = bf16[8,8] custom-call(%u), custom_call_target="__cudnn$fmhaSoftmax"
  ROOT %o = bf16[8,8]{1,0} bitcast(%w)
}

ENTRY %main (x.1: bf16[8,8], f: f32[8,8], k: s32[]) -> bf16[8,8] {
  %x.1 = bf16[8,8]{1,0} parameter(0)
  %f = f32[8,8]{1,0} parameter(1)
  %k = s32[] parameter(2)
  %l = f32[] fusion(%f), kind=kInput, calls=%reduced
  %g = ((f32[]), f32[], u32[]) fusion-start(%l), calls=%exchange
  %j = f32[] fusion-done(%g), calls=%exchange
  %pair = (s32[], bf16[8,8]{1,0}) tuple(%k, %x.1)
  %loop = (s32[], bf16[8,8]) while(%pair), condition=%condition, body=%body
  %end = bf16[8,8]{1,0} get-tuple-element(%loop), index=1
  %b = bf16[8,8] conditional(%k, %end, %end), branch_computations={%few, %many}
  ROOT %copy = bf16[8,8]{0,1} copy(%b)
}

%exchange (p.4: f32[]) -> f32[] {
  %p.4 = f32[] parameter(0)
  ROOT %all = f32[] all-reduce(%p.4), replica_groups={{0,1}}, to_apply=%sum
}
"""


@pytest.mark.parametrize('iterations', [1, 5])
def test_kernels_of_what_a_program_calls(iterations):
  program = NESTED
  if iterations > 1:  # Otherwise the number depends on data.
    known = f', backend_config={{"known_trip_count":{{"n":"{iterations}"}}}}'
    program = program.replace('body=%body', 'body=%body' + known)
  assert kernels.count(program) == {
    'attention': 1,
    'copies': 1,
    'element-wise': iterations,
    'exchanges': 1,
    'products': 1 + iterations,
    'reductions': 1,
  }
