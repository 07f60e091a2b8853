"""The network of clicks against NumPy, and lookups of many tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import click
from tt_compress.nn import compress, embed, joint_lookup, modules

SIZES = (5, 30, 3, 30, 41)


def make(large, rule=None, **options):
  options = dict(cardinalities=SIZES, dim=4, hidden=(8,)) | options
  model = click.Click(
    click.ClickConfig(large=large, **options), rngs=nnx.Rngs(0)
  )
  if rule:
    compress.compress(model, (('tables/.*', rule),), nnx.Rngs(1))
  return model


def random_ids(number=7):
  rng = np.random.default_rng(0)
  return np.stack([rng.integers(0, n, number) for n in SIZES], 1)


@pytest.mark.parametrize(
  'large, rule',
  [
    (None, None),
    (0, None),
    (20, None),
    (20, dict(name='tensor_train', tt_rank=2, num_modes=2)),
    (20, dict(name='word2ketxs', order=2, rank=2)),
  ],
)
def test_the_model_is_its_definition(large, rule):
  model, ids = make(large, rule), random_ids()
  full = {
    path: np.array(m.full()) for path, m in modules.matrices(model).items()
  }
  small = [k for k, n in enumerate(SIZES) if large is None or n <= large]
  order = [*small, *(k for k in range(len(SIZES)) if k not in small)]
  rows = []
  for k in order:
    if k in small:
      start = sum(SIZES[j] for j in small if j < k)
      rows.append(full['joined'][start + ids[:, k]])
    else:
      rows.append(full[f'tables/E{k}'][ids[:, k]])
  x = np.maximum(np.concatenate(rows, 1) @ full['mlp/layers/0'], 0)
  x = (x @ full['mlp/layers/1'])[:, 0]
  np.testing.assert_allclose(model(jnp.array(ids)), x, rtol=0, atol=1e-6)


def test_tables_keep_their_arrays_when_the_model_is_merged():
  sizes = (2, 2, 30, *(2,) * 8, 41)  # features 2 and 11 are large
  model = make(20, cardinalities=sizes)
  merged = modules.merge(*modules.split(model))
  ids = jnp.array([[n - 1 for n in sizes]])
  np.testing.assert_array_equal(merged(ids), model(ids))


def test_tables_together_and_apart_have_the_same_count():
  numbers = [
    sum(a.size for a in jax.tree.leaves(nnx.state(make(large), nnx.Param)))
    for large in (None, 0, 20)
  ]
  assert numbers == [sum(SIZES) * 4 + 20 * 8 + 8 + 8 + 1] * 3


@pytest.mark.parametrize(
  'rule',
  [
    dict(name='tensor_train', tt_rank=2),
    dict(name='kronecker', rank=2),
    dict(name='low_rank', rank=2),
  ],
)
def test_stacked_tables_equal_a_loop(rule):
  model, ids = make(20, rule), jnp.array(random_ids(2000))[:, [1, 3, 4]]
  graph, state = nnx.split(model.tables)

  def loss(together, state):
    tables = list(nnx.merge(graph, state).values())
    assert isinstance(tables[0], embed.Embed)
    found = (
      joint_lookup.take(tables, ids)
      if together
      else jnp.stack([t(x) for t, x in zip(tables, ids.T, strict=True)], 1)
    )
    return jnp.sum(jnp.sin(found + jnp.arange(3)[:, None]))

  found, expected = (
    jax.value_and_grad(loss, argnums=1)(together, state)
    for together in (True, False)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    *(found, expected),
  )


def test_options_out_of_range_are_refused():
  for options in ({'cardinalities': ()}, {'cardinalities': (3, 0)}):
    with pytest.raises(ValueError, match='cardinalities'):
      make(None, **options)
  with pytest.raises(ValueError, match='must be positive'):
    make(None, hidden=(0,))
