import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import distance_bias

NUM_BUCKETS, MAX_DISTANCE, HEADS = 8, 20, 3


@pytest.mark.parametrize('is_causal', [True, False])
def test_a_pair_of_positions_has_the_number_of_its_bucket(is_causal):
  module = distance_bias.DistanceBias(
    NUM_BUCKETS,
    MAX_DISTANCE,
    HEADS,
    is_causal=is_causal,
    std=1.0,
    rngs=nnx.Rngs(0),
  )
  table = np.asarray(module.table).reshape(NUM_BUCKETS, HEADS)
  half = NUM_BUCKETS // 2
  sides = distance_bias.buckets(NUM_BUCKETS if is_causal else half, 20)
  queries, keys = np.arange(3, 30), np.arange(26)
  found = module(queries, keys)
  for i, query in enumerate(queries):
    for j, key in enumerate(keys):
      is_behind = key > query
      if is_causal and is_behind:
        continue  # hidden by the mask
      bucket = sides[min(abs(query - key), MAX_DISTANCE)]
      # The upper half is that of the keys behind the query.
      expected = table[bucket + half * is_behind]
      np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-6)
