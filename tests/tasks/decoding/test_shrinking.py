"""Loops whose batch shrinks: results, and how many sentences each step has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.tasks.decoding import shrinking


def count(limits):
  """Steps of each sentence, counted; the batch size of each step."""
  sizes = []

  def step(limits, state, index):
    jax.debug.callback(lambda: sizes.append(len(limits)), ordered=True)
    counts, names = state
    return counts + (index < limits), names

  limits = jnp.array(limits)
  counts, names = shrinking.loop(
    step,
    is_open=lambda limits, state, index: index < limits,
    result=lambda limits, state: state,
    fixed=limits,
    state=(jnp.zeros_like(limits), jnp.arange(len(limits))),
  )
  jax.effects_barrier()
  np.testing.assert_array_equal(counts, limits)
  np.testing.assert_array_equal(names, np.arange(len(limits)))
  return sizes


@pytest.mark.parametrize(
  'limits, sizes',
  [
    ([0] * 16, []),
    ([3] * 16, [16] * 3),
    ([1, 9] + [2] * 13 + [1], [16] * 2 + [4] * 7),
    ([5, 3, 1, 0], [4] * 5),
    ([1] * 32 + [3] * 20 + [4] * 8 + [6, 6, 9, 7], [64] * 3 + [16] * 6),
  ],
)
def test_few_open_sentences_are_a_smaller_batch(limits, sizes):
  assert count(limits) == sizes
