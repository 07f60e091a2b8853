"""Batches of examples of one shape, as a pure function of the step."""

import numpy as np

from tt_compress.data import batching


class Batches:
  """Batches of a fixed number of examples.

  Which examples a batch holds is a pure function of (number of examples, seed,
  epoch, step); neither the number of devices nor of processes changes it. They
  only make rows of weight zero behind the examples, up to `batch_multiple`; so
  does the last batch of an epoch.

  Args:
    arrays: {name: [number, ...]}, one row an example.
    batch_size: examples in a global batch.
    batch_multiple: the rows of every global batch are a multiple of it, e.g.
      the number of devices.
    seed: non-negative; decides the order.
    shuffle: False for the order of the arrays.
    process_index: which contiguous share of each batch's rows to return.
    process_count: into how many shares each batch is cut.

  Raises:
    ValueError: arrays of different or no length, or options out of range.
  """

  def __init__(
    self,
    arrays,
    *,
    batch_size,
    batch_multiple=1,
    seed=0,
    shuffle=True,
    process_index=0,
    process_count=1,
  ):
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
      raise ValueError(f'arrays of one positive length are needed: {lengths}')
    if batch_size < 1:
      raise ValueError(f'batch_size={batch_size} must be at least 1')
    batching.check_share(seed, process_index, process_count)
    multiple = batching.check_multiple(batch_multiple, process_count)
    self._arrays, self._size = arrays, batch_size
    self._number = min(lengths.values())
    self._share = batching.filled(batch_size, multiple) // process_count
    self._first = self._share * process_index
    self.steps_per_epoch = -(-self._number // batch_size)
    self._seed, self._shuffle = seed, shuffle
    self._memo = (None, None)

  def batch(self, step):
    """Returns this process's rows of the batch of one step.

    Args:
      step: non-negative; steps may be asked for in any order.

    Returns:
      The arrays' rows, [B, ...], with 'weights', float32 [B], one for an
      example and zero for padding, and 'positions', the global row indices,
      int32 [B].
    """
    if step < 0:
      raise ValueError(f'step {step} is negative')
    epoch, place = divmod(int(step), self.steps_per_epoch)
    rows = self._order(epoch)[place * self._size : (place + 1) * self._size]
    rows = rows[self._first : self._first + self._share]
    weights = np.zeros(self._share, np.float32)
    weights[: len(rows)] = 1
    batch = {
      name: _padded(array[rows], self._share)
      for name, array in self._arrays.items()
    }
    positions = np.arange(self._share, dtype=np.int32) + self._first
    return batch | {'weights': weights, 'positions': positions}

  def summary(self):
    """Says in one line how many steps and which shape."""
    return (
      f'{self._number} examples, {self.steps_per_epoch} steps an epoch, '
      f'batches of {self._size}'
    )

  def _order(self, epoch):
    """The examples of an epoch in their order; the newest is kept."""
    if not self._shuffle:
      return np.arange(self._number)
    known, order = self._memo
    if known != epoch:
      bits = np.random.Philox(np.random.SeedSequence((self._seed, epoch)))
      order = batching.order(bits, self._number)
      self._memo = (epoch, order)
    return order


def _padded(rows, size):
  if len(rows) == size:
    return rows
  return np.concatenate(
    [rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)]
  )
