import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract, wrappers
from tt_compress.parameterizations import composed, quantized


def zeros(factors):
  flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(factors['base'])])
  return np.sum(flat == 0)


def test_the_smallest_of_all_arrays_are_pruned(key):
  spec = wrappers.make(
    'pruned', 'low_rank', sparsity=0.5, begin=10, end=30, every=10
  )
  factors = contract.initialize(spec)(key)
  project = wrappers.jit(spec.project)
  sizes = np.sort(
    np.abs(
      np.concatenate([np.ravel(a) for a in jax.tree.leaves(factors['base'])])
    )
  )
  total = 3 * (wrappers.ROWS + wrappers.COLS) + 9
  assert len(sizes) == total
  # 0.5 (1 - (1 - p)^3) for p = 0, 1/2, 1 and after the end.
  for step, fraction in ((0, 0), (10, 0), (20, 0.4375), (30, 0.5), (90, 0.5)):
    count = round(fraction * total)
    assert spec.sparsity_at(step) == pytest.approx(fraction)
    after = project(factors, jnp.asarray(step))
    for name, array in factors['base'].items():
      expected = np.where(np.abs(array) >= sizes[count], array, 0)
      np.testing.assert_array_equal(after['base'][name], expected)
      np.testing.assert_array_equal(after['mask'][name], expected != 0)
  for step in (15, 29, 31):
    assert zeros(project(factors, jnp.asarray(step))) == 0
  end = wrappers.make(
    'pruned', 'low_rank', sparsity=0.5, begin=10, end=33, every=10
  )
  assert zeros(end.project(factors, jnp.asarray(33))) == round(0.5 * total)


def test_thresholds_rise_to_their_bound(key):
  spec = wrappers.make(
    'pruned',
    'low_rank',
    schedule='threshold',
    sparsity=None,
    end=None,
    every=5,
    max_threshold=0.4,
  )
  factors = contract.initialize(spec)(key)
  project = wrappers.jit(spec.project)
  thresholds = {1: 0.1, 5: 0.3, 10: 0.4, 50: 0.4}
  for step, threshold in thresholds.items():
    assert spec.threshold_at(step) == pytest.approx(threshold)
    after = project(factors, jnp.asarray(step))
    for name, array in factors['base'].items():
      expected = np.where(np.abs(array) <= threshold, 0, array)
      np.testing.assert_array_equal(after['base'][name], expected)
  for step in (2, 4, 6):
    assert zeros(project(factors, jnp.asarray(step))) == 0


def test_what_is_pruned_stays_zero(key):
  """Though the optimizer moves it, and others become smaller than it was."""
  spec = wrappers.make('pruned', 'word2ket', sparsity=0.6, end=8, every=2)
  factors = contract.initialize(spec)(key)
  project = wrappers.jit(spec.project)
  gone = np.zeros(factors['base']['leaves'].shape, bool)
  for step in range(1, 13):
    noise = jax.random.normal(jax.random.fold_in(key, step), gone.shape)
    moved = {**factors['base'], 'leaves': factors['base']['leaves'] + noise}
    factors = project({**factors, 'base': moved}, jnp.asarray(step))
    leaves = np.asarray(factors['base']['leaves'])
    assert np.all(leaves[gone] == 0)
    assert set(factors['mask']) == {'leaves', 'norms'}
    gone = leaves == 0
  entries = sum(a.size for a in jax.tree.leaves(factors['mask']))
  masked = sum(np.sum(~a) for a in jax.tree.leaves(factors['mask']))
  assert masked == round(0.6 * entries)


def pruned_by_hand(schedule, sizes, step):
  """Masks of weights to keep, where sizes of pruned weights are 0."""
  if schedule == 'threshold':
    return sizes > min(0.25 + 0.25 * (step // 4), 0.75)
  left = 1 - min(max(step / 8, 0), 1)
  count = round(0.5 * (1 - left**3) * sizes.size)
  return sizes >= np.sort(sizes.ravel())[count]


@pytest.mark.parametrize(
  'schedule, options',
  [
    (
      'threshold',
      dict(threshold=0.25, increment=0.25, max_threshold=0.75),
    ),
    ('cubic', dict(sparsity=0.5, end=8)),
  ],
)
def test_masks_over_many_steps(schedule, options):
  """Weights are multiples of 1/4, so that many equal a threshold or a rank."""
  given = dict(sparsity=None, end=None, every=4, schedule=schedule) | options
  spec = wrappers.make('pruned', 'dense', rows=6, cols=5, **given)
  rng = np.random.default_rng(0)
  draw = lambda: rng.integers(-8, 9, (6, 5)).astype(np.float32) / 4
  weights, mask = draw(), np.ones((6, 5), bool)
  # Zero, but not pruned: it may grow.
  weights[0, 0] = 0
  ones = {'matrix': jnp.asarray(mask)}
  factors = {'base': {'matrix': jnp.asarray(weights)}, 'mask': ones}
  project = wrappers.jit(spec.project)
  for step in range(1, 14):
    update = draw()
    moved = {'matrix': factors['base']['matrix'] + update}
    factors = project({**factors, 'base': moved}, jnp.asarray(step))
    weights = weights + update
    if step % 4 == 0 or (schedule, step) == ('threshold', 1):
      mask &= pruned_by_hand(schedule, np.abs(weights) * mask, step)
    weights = weights * mask
    np.testing.assert_array_equal(factors['mask']['matrix'], mask)
    np.testing.assert_array_equal(factors['base']['matrix'], weights)
  assert 0 < mask.sum() < mask.size


def test_pruned_weights_have_no_gradient():
  spec, factors = wrappers.draw('pruned', 'tensor_train')
  inner, mask = factors['base'], factors['mask']
  loss = lambda inner: jnp.sum(spec.full({'base': inner, 'mask': mask}) ** 2)
  gradients = wrappers.jit(jax.grad(loss))(inner)
  for name, gradient in gradients.items():
    assert np.all(np.asarray(gradient)[~mask[name]] == 0)
    assert np.all(np.asarray(gradient)[mask[name]] != 0)


@pytest.mark.parametrize(
  'kept, places', [(1, 5), (6, 30), (7, 32), (31, 32), (32, 32)]
)
def test_size_of_pruned_factors(kept, places):
  """A bit for each of 32 entries, or 5 bits for the index of one."""
  matrix = (jnp.arange(32.0) < kept).reshape(4, 8).astype(jnp.float32)
  spec = wrappers.make('pruned', 'dense', rows=4, cols=8)
  factors = {'base': {'matrix': matrix}, 'mask': {'matrix': matrix > 0}}
  assert spec.stored_size(factors) == (kept, 32 * kept + places)
  half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), factors['base'])
  factors = {**factors, 'base': half}
  assert spec.stored_size(factors) == (kept, 16 * kept + places)
  assert spec.stored_size(composed.shapes(spec)) == (32, 32 * 32 + 32)


@pytest.mark.parametrize(
  'options, settled',
  [
    (dict(sparsity=0.5, begin=10, end=33, every=15), 33),
    # Thresholds 0.1, 0.3, 0.4 from steps 0, 5 and 10.
    (dict(max_threshold=0.4, every=5), 10),
    (dict(max_threshold=0.5, every=5), 10),
    (dict(max_threshold=0.1, every=5), 1),
    (dict(max_threshold=0.4, increment=0.0), 1),
  ],
)
def test_the_schedule_ends(options, settled, key):
  if 'max_threshold' in options:
    options = dict(schedule='threshold', sparsity=None, end=None) | options
  spec = wrappers.make('pruned', 'low_rank', **options)
  assert spec.settled_at == settled
  around = wrapped_in_another(spec)
  assert around.settled_at == settled
  factors = contract.initialize(spec)(key)
  project = wrappers.jit(spec.project)
  after = [
    zeros(project(factors, jnp.asarray(step))) for step in range(3 * settled)
  ]
  # Nothing more at any step of the rest, and something more at the last one.
  assert max(after[: settled + 1]) == after[settled] == max(after)
  assert after[settled] > max(after[:settled], default=-1) or settled == 1


def wrapped_in_another(spec):
  return quantized.Quantized(rows=spec.rows, cols=spec.cols, base=spec)
