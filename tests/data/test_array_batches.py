"""Batches of arrays: every example once per epoch, on any devices."""

import numpy as np
import pytest

from tt_compress.data import batching

ARRAYS = {
  'images': np.arange(23, dtype=np.uint8)[:, None] * np.ones(3, np.uint8),
  'labels': np.arange(23, dtype=np.int32),
}
OPTIONS = dict(batch_size=5, seed=3)


def rows_of(batch):
  return batch['labels'][batch['weights'] == 1].tolist()


def test_an_epoch_holds_every_example_once():
  batches = batching.of_arrays(ARRAYS, **OPTIONS)
  assert batches.steps_per_epoch == 5
  epochs = [
    [rows_of(batches.batch(5 * epoch + place)) for place in range(5)]
    for epoch in range(2)
  ]
  for epoch in epochs:
    assert [len(rows) for rows in epoch] == [5, 5, 5, 5, 3]
    assert sorted(sum(epoch, [])) == list(range(23))
  assert epochs[0] != epochs[1]
  assert epochs[0] != [sorted(rows) for rows in epochs[0]]


def test_rows_of_arrays_stay_together():
  batch = batching.of_arrays(ARRAYS, **OPTIONS).batch(4)
  np.testing.assert_array_equal(batch['images'][:, 1], batch['labels'])
  assert batch['images'].dtype == np.uint8
  assert batch['labels'].dtype == batch['positions'].dtype == np.int32
  assert batch['weights'].dtype == np.float32
  assert batch['weights'].tolist() == [1, 1, 1, 0, 0]
  assert not batch['images'][3:].any()
  assert batch['positions'].tolist() == [0, 1, 2, 3, 4]


def test_a_batch_is_a_function_of_seed_and_step():
  one, other = (batching.of_arrays(ARRAYS, **OPTIONS) for _ in range(2))
  forward = [rows_of(one.batch(step)) for step in range(12)]
  backward = [rows_of(other.batch(step)) for step in reversed(range(12))]
  assert forward == backward[::-1]
  third = batching.of_arrays(ARRAYS, **OPTIONS | dict(seed=4))
  assert rows_of(third.batch(0)) != forward[0]


def test_the_stream_of_bits_stays_the_same():
  """A run resumes with the order it began with, under any NumPy."""
  assert rows_of(batching.of_arrays(ARRAYS, **OPTIONS).batch(0)) == [
    21,
    0,
    16,
    1,
    2,
  ]


@pytest.mark.parametrize('devices, processes', [(8, 1), (8, 2), (2, 2), (3, 1)])
def test_devices_and_processes_only_add_padding(devices, processes):
  one = batching.of_arrays(ARRAYS, **OPTIONS)
  shares = [
    batching.of_arrays(
      ARRAYS,
      **OPTIONS,
      batch_multiple=devices,
      process_index=index,
      process_count=processes,
    )
    for index in range(processes)
  ]
  for step in range(6):
    expected = one.batch(step)
    parts = [share.batch(step) for share in shares]
    whole = {
      name: np.concatenate([part[name] for part in parts]) for name in expected
    }
    assert len(whole['weights']) % devices == 0
    assert whole['positions'].tolist() == list(range(len(whole['weights'])))
    for name in ('images', 'labels', 'weights'):
      np.testing.assert_array_equal(whole[name][:5], expected[name])
      assert not whole[name][5:].any()


def test_in_order():
  batches = batching.of_arrays(ARRAYS, batch_size=10, shuffle=False)
  assert rows_of(batches.batch(2)) == rows_of(batches.batch(5)) == [20, 21, 22]
  assert batches.summary() == '23 examples, 3 steps per epoch, batches of 10'


@pytest.mark.parametrize(
  'options, told',
  [
    (dict(batch_size=0), 'batch_size=0'),
    (dict(seed=-1), 'seed=-1'),
    (dict(batch_multiple=0), 'batch_multiple=0'),
    (dict(process_count=2), 'batch_multiple=1 does.*process_count=2'),
    (dict(process_index=1), 'process_index=1'),
  ],
)
def test_bad_options_are_named(options, told):
  with pytest.raises(ValueError, match=told):
    batching.of_arrays(ARRAYS, **OPTIONS | options)


def test_arrays_that_do_not_fit():
  for arrays, message in (
    ({'a': np.zeros(2), 'b': np.zeros(3)}, "'a': 2, 'b': 3"),
    ({'a': np.zeros((0, 2))}, 'no examples'),
  ):
    with pytest.raises(ValueError, match=message):
      batching.of_arrays(arrays, **OPTIONS)
  with pytest.raises(ValueError, match='step -1'):
    batching.of_arrays(ARRAYS, **OPTIONS).batch(-1)
