"""Batches of pairs: every pair once per epoch, in the tightest bucket."""

import numpy as np
import pytest

from tt_compress.data import batching

OPTIONS = dict(bucket_lengths=(8, 5, 12), batch_tokens=48)


def pairs(size=101, longest=11, seed=0):
  rng = np.random.default_rng(seed)
  return [
    [
      rng.integers(4, 90, rng.integers(0, longest + 1)).astype(np.int32)
      for _ in range(size)
    ]
    for _ in range(2)
  ]


def rows(batch):
  """Pairs of a batch as tuples, without padding rows."""
  both = zip(batch['inputs'], batch['targets'], strict=True)
  return [
    tuple(tuple(int(i) for i in side[side != 0]) for side in pair)
    for pair in both
    if pair[0].any()
  ]


@pytest.mark.parametrize('shuffle', [True, False])
def test_every_pair_comes_once_an_epoch(shuffle):
  source, target = pairs()
  batches = batching.of_pairs(source, target, shuffle=shuffle, **OPTIONS)
  expected = sorted(
    ((*s.tolist(), 2), (*t.tolist(), 2))
    for s, t in zip(source, target, strict=True)
  )
  for epoch in range(3):
    steps = range(batches.steps_per_epoch)
    found = [batches.batch(epoch * len(steps) + step) for step in steps]
    assert sorted(row for batch in found for row in rows(batch)) == expected


def test_the_first_step_of_each_shape():
  batches = batching.of_pairs(*pairs(), **OPTIONS)
  length = lambda step: batches.batch(step)['inputs'].shape[1]
  for start in (0, 3, batches.steps_per_epoch - 2):
    expected = {}
    for step in range(start, start + 2 * batches.steps_per_epoch):
      expected.setdefault(length(step), step)
    stop = 10**6
    assert batches.first_steps(start, stop) == list(expected.values())
    assert batches.first_steps(start, start + 1) == [start]
  assert batches.first_steps(5, 5) == []


def test_shapes_are_the_tightest_buckets():
  source, target = pairs()
  batches = batching.of_pairs(source, target, **OPTIONS)
  seen = set()
  for step in range(batches.steps_per_epoch):
    batch = batches.batch(step)
    size, length = batch['inputs'].shape
    seen.add((size, length))
    assert batch['targets'].shape == (size, length)
    assert batch['inputs'].dtype == batch['targets'].dtype == np.int32
    np.testing.assert_array_equal(batch['positions'], np.arange(size))
    for row in rows(batch):
      need = max(map(len, row))
      assert length == min(bound for bound in (5, 8, 12) if bound >= need)
  assert seen == {(9, 5), (6, 8), (4, 12)}


def test_batch_is_a_pure_function_of_the_step():
  source, target = pairs()
  first = batching.of_pairs(source, target, seed=3, **OPTIONS)
  second = batching.of_pairs(source, target, seed=3, **OPTIONS)
  total = 3 * first.steps_per_epoch
  forward = [first.batch(step) for step in range(total)]
  for step in np.random.default_rng(1).permutation(total):
    again = second.batch(step)
    for name, value in forward[step].items():
      np.testing.assert_array_equal(again[name], value)


def test_order_depends_on_seed_and_epoch():
  source, target = pairs()

  def order(seed, epoch, shuffle=True):
    batches = batching.of_pairs(
      source, target, seed=seed, shuffle=shuffle, **OPTIONS
    )
    first = epoch * batches.steps_per_epoch
    steps = range(first, first + batches.steps_per_epoch)
    return [row for step in steps for row in rows(batches.batch(step))]

  assert order(0, 0) != order(0, 1)
  assert order(0, 0) != order(1, 0)
  assert order(0, 1) != order(1, 0)
  assert order(0, 0, False) == order(5, 1, False)


@pytest.mark.parametrize('count', [1, 2, 4])
def test_shares_of_processes_make_the_global_batch(count):
  source, target = pairs()
  options = OPTIONS | dict(batch_multiple=4)
  whole = batching.of_pairs(source, target, **options)
  shares = [
    batching.of_pairs(
      source, target, process_index=i, process_count=count, **options
    )
    for i in range(count)
  ]
  for step in range(whole.steps_per_epoch + 2):
    expected = whole.batch(step)
    parts = [share.batch(step) for share in shares]
    for name, value in expected.items():
      found = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(found, value)


def test_rows_are_a_multiple_even_where_few_tokens_are_asked_for():
  source, target = pairs()
  batches = batching.of_pairs(
    source, target, bucket_lengths=[12], batch_tokens=10, batch_multiple=8
  )
  assert batches.batch(0)['inputs'].shape == (8, 12)


@pytest.mark.parametrize('multiple', [2, 8, 32])
def test_the_number_of_devices_does_not_change_what_a_batch_holds(multiple):
  source, target = pairs()
  one = batching.of_pairs(source, target, **OPTIONS)
  many = batching.of_pairs(
    source, target, **OPTIONS | dict(batch_multiple=multiple)
  )
  assert many.steps_per_epoch == one.steps_per_epoch
  for step in range(2 * one.steps_per_epoch):
    expected, found = one.batch(step), many.batch(step)
    rows = len(expected['inputs'])
    assert len(found['inputs']) % multiple == 0
    for name in ('inputs', 'targets'):
      np.testing.assert_array_equal(found[name][:rows], expected[name])
      assert not found[name][rows:].any()


def test_the_stream_of_bits_stays_the_same():
  """A run resumes with the order it began with, under any NumPy."""
  ids = [[4 + i] for i in range(6)]
  batches = batching.of_pairs(
    ids, ids, bucket_lengths=[2], batch_tokens=4, seed=1
  )
  found = [batches.batch(step)['inputs'][:, 0].tolist() for step in range(3)]
  assert found == [[6, 4], [5, 8], [9, 7]]


def test_short_targets_have_a_padded_length_of_their_own():
  source, target = pairs()
  target = [ids[:5] for ids in target]
  expected = batching.of_pairs(source, target, **OPTIONS)
  found = batching.of_pairs(source, target, target_length=6, **OPTIONS)
  lengths, slots, used = set(), 0, 0
  for step in range(expected.steps_per_epoch):
    one, other = expected.batch(step), found.batch(step)
    np.testing.assert_array_equal(one['inputs'], other['inputs'])
    length = other['targets'].shape[1]
    np.testing.assert_array_equal(one['targets'][:, :length], other['targets'])
    assert not one['targets'][:, length:].any()
    lengths.add((other['inputs'].shape[1], length))
    slots += other['inputs'].size + other['targets'].size
    used += sum(np.count_nonzero(other[name]) for name in ('inputs', 'targets'))
  assert lengths == {(5, 5), (8, 6), (12, 6)}
  assert found.summary().endswith(f'{1 - used / slots:.1%} padding')
  told = r'\d+ of 101 sequences .* max_length=5; the longest has 6 ids'
  with pytest.raises(ValueError, match=told):
    batching.of_pairs(source, target, target_length=5, **OPTIONS)


def test_too_long_pairs_are_counted_not_cut():
  source, target = pairs()
  source[7] = np.full(30, 5, np.int32)
  target[9] = np.full(12, 5, np.int32)
  with pytest.raises(ValueError, match=r'2 of 101 .*\(12 ids; .* has 31, .*'):
    batching.of_pairs(source, target, **OPTIONS)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(bucket_lengths=()), 'bucket_lengths='),
    (dict(bucket_lengths=(0, 12)), 'bucket_lengths='),
    (dict(batch_tokens=0), 'batch_tokens=0'),
    (dict(batch_multiple=0), 'batch_multiple=0'),
    (dict(seed=-1), 'seed=-1'),
    (dict(process_index=2, process_count=2), 'process_index=2'),
    (dict(process_count=2), 'batch_multiple=1 does.*process_count=2'),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    batching.of_pairs(*pairs(), **OPTIONS | options)


def test_bad_sequences_and_steps_are_refused():
  source, target = pairs()
  with pytest.raises(ValueError, match="'inputs': 101, 'targets': 100"):
    batching.of_pairs(source, target[:-1], **OPTIONS)
  with pytest.raises(ValueError, match='no examples'):
    batching.of_pairs([], [], **OPTIONS)
  with pytest.raises(ValueError, match='step -1'):
    batching.of_pairs(source, target, **OPTIONS).batch(-1)


def test_the_targets_of_an_epoch_are_counted():
  batches = batching.of_pairs(*pairs(), **OPTIONS | dict(batch_multiple=8))
  steps = range(batches.steps_per_epoch)
  found = sum(np.count_nonzero(batches.batch(s)['targets']) for s in steps)
  assert batches.num_ids('targets') == found


def test_summary_counts_padding():
  source, target = [[5, 6, 7, 8]] * 3, [[5, 6, 7]] * 3
  batches = batching.of_pairs(
    source, target, bucket_lengths=[8], batch_tokens=16
  )
  assert batches.summary() == (
    '3 examples, 2 steps per epoch, batches of 2x8, 57.8% padding'
  )
