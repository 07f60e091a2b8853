"""Sequences in buckets: labeled texts for training, sentences for decoding."""

import numpy as np
import pytest

from tt_compress.data import batching, sequences

LENGTHS = np.random.default_rng(0).integers(0, 13, 57)
TEXTS = [np.full(length, 4 + i) for i, length in enumerate(LENGTHS)]
LABELS = np.arange(57, dtype=np.int32)
OPTIONS = dict(bucket_lengths=(12, 5), batch_size=4, seed=3)


def make(**options):
  return batching.of_sequences(TEXTS, {'labels': LABELS}, **OPTIONS | options)


def test_every_text_comes_once_per_epoch_with_its_label():
  batches = make()
  orders = []
  for epoch in range(2):
    labels = []
    for place in range(batches.steps_per_epoch):
      batch = batches.batch(epoch * batches.steps_per_epoch + place)
      is_real = batch['weights'] == 1
      labels += batch['labels'][is_real].tolist()
      length = batch['inputs'].shape[1]
      for ids, label in zip(
        batch['inputs'][is_real], batch['labels'][is_real], strict=True
      ):
        count = LENGTHS[label]
        assert length == (5 if count <= 5 else 12)
        assert ids.tolist() == [4 + label] * count + [0] * (length - count)
      assert not batch['inputs'][~is_real].any()
      assert not batch['labels'][~is_real].any()
      assert batch['inputs'].dtype == np.int32
      assert batch['weights'].dtype == np.float32
    assert sorted(labels) == list(range(57))
    orders.append(labels)
  assert orders[0] != orders[1]


@pytest.mark.parametrize('multiple, count', [(8, 1), (8, 2), (6, 3)])
def test_devices_and_processes_only_add_padding(multiple, count):
  one = make()
  shares = [
    make(batch_multiple=multiple, process_index=i, process_count=count)
    for i in range(count)
  ]
  for step in range(one.steps_per_epoch + 3):
    expected = one.batch(step)
    parts = [share.batch(step) for share in shares]
    whole = {k: np.concatenate([part[k] for part in parts]) for k in expected}
    assert whole['positions'].tolist() == list(range(len(whole['labels'])))
    assert len(whole['labels']) % multiple == 0
    for name in ('inputs', 'labels', 'weights'):
      np.testing.assert_array_equal(whole[name][:4], expected[name])
      assert not whole[name][4:].any()


def test_the_order_is_that_of_the_seed_and_the_step():
  labels = lambda batches, step: batches.batch(step)['labels'].tolist()
  first, second, other = make(), make(), make(seed=4)
  steps = range(2 * first.steps_per_epoch)
  forward = [labels(first, step) for step in steps]
  assert [labels(second, step) for step in reversed(steps)] == forward[::-1]
  assert [labels(other, step) for step in steps] != forward
  in_order = make(shuffle=False)
  found = sum((labels(in_order, s) for s in range(steps.stop // 2)), [])
  short = [i for i in range(57) if LENGTHS[i] <= 5]
  assert found[: len(short)] == short


def test_summary_and_errors():
  total = LENGTHS.sum()
  short = int(np.sum(LENGTHS <= 5))
  slots = -(-short // 4) * 4 * 5 + -(-(57 - short) // 4) * 4 * 12
  batches = make()
  assert batches.num_ids('inputs') == total
  assert batches.summary() == (
    f'57 examples, {batches.steps_per_epoch} steps per epoch, batches of 4x5 '
    f'4x12, {1 - total / slots:.1%} padding'
  )
  with pytest.raises(ValueError, match='longer than the longest bucket'):
    make(bucket_lengths=(5,))
  with pytest.raises(ValueError, match="'inputs': 57, 'labels': 2"):
    batching.of_sequences(TEXTS, {'labels': LABELS[:2]}, **OPTIONS)
  with pytest.raises(ValueError, match='batch_size=0'):
    make(batch_size=0)


def test_sentence_batches_hold_every_sentence_whole():
  rng = np.random.default_rng(0)
  source = [
    rng.integers(4, 90, rng.integers(0, 12)).astype(np.int32) for _ in range(53)
  ]
  source[10] = np.arange(4, 4 + 30, dtype=np.int32)
  source[11] = source[12] = source[13] = np.arange(4, 4 + 20, dtype=np.int32)
  found, shapes = {}, set()
  batches = sequences.sentence_batches(
    source, bucket_lengths=(6, 12), batch_size=8
  )
  for indices, ids in batches:
    assert ids.dtype == np.int32
    shapes.add(ids.shape)
    assert not ids[len(indices) :].any()
    for index, row in zip(indices, ids, strict=False):
      found[int(index)] = row[row != 0].tolist()
  # Twice as long needs four times the memory in attention.
  assert shapes == {(8, 6), (8, 12), (2, 24), (1, 36)}
  assert found == {i: [*ids.tolist(), 2] for i, ids in enumerate(source)}


def test_sentence_batches_of_nothing_and_of_bad_size():
  assert not list(
    sequences.sentence_batches([], bucket_lengths=[4], batch_size=2)
  )
  with pytest.raises(ValueError, match='batch_size=0'):
    list(sequences.sentence_batches([[5]], bucket_lengths=[4], batch_size=0))
