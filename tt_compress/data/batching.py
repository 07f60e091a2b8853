"""Fixed-shape batches as a pure function of the step."""

import numpy as np

from tt_compress.data import corpus


class Batches:
  """Batches of pairs, each padded to one of a few lengths.

  Every pair gets an end id on both sides and goes to the shortest bucket that
  holds both. A bucket of length L has batches of B = batch_tokens // L pairs,
  at least one. Which pairs a batch holds is a pure function of (lengths, seed,
  epoch), so the step is all the state there is; neither the number of devices
  nor of processes changes it. They only make rows of zeros behind the pairs,
  up to `batch_multiple`; so does the last batch of an epoch.

  Args:
    source: sequences of ids, without end ids.
    target: their translations, as many.
    bucket_lengths: the lengths L, ends included.
    batch_tokens: padded target tokens in a global batch.
    batch_multiple: the rows of every global batch are a multiple of it, filled
      up with rows of zeros; e.g. the number of devices.
    seed: non-negative; decides the order.
    shuffle: False for the order of the corpus, bucket by bucket.
    process_index: which contiguous share of each batch's rows to return.
    process_count: into how many shares each batch is cut.

  Raises:
    ValueError: the sides differ in number, a pair is longer than the longest
      bucket, or the rows do not divide among the processes.
  """

  def __init__(
    self,
    source,
    target,
    *,
    bucket_lengths,
    batch_tokens,
    batch_multiple=1,
    seed=0,
    shuffle=True,
    process_index=0,
    process_count=1,
  ):
    _check(source, target)
    check_share(seed, process_index, process_count)
    self._source, self._target = _Sequences(source), _Sequences(target)
    lengths = 1 + np.maximum(self._source.lengths, self._target.lengths)
    self.bucket_lengths = _sorted_lengths(bucket_lengths)
    bucket = np.searchsorted(self.bucket_lengths, lengths)
    _check_fits(lengths, self.bucket_lengths)
    self._members = [
      np.flatnonzero(bucket == i) for i in range(len(self.bucket_lengths))
    ]
    self.batch_sizes = [
      batch_size(length, batch_tokens) for length in self.bucket_lengths
    ]
    self._multiple = check_multiple(batch_multiple, process_count)
    self.steps_per_epoch = sum(
      -(-len(members) // size)
      for members, size in zip(self._members, self.batch_sizes, strict=True)
    )
    self._seed, self._shuffle = seed, shuffle
    self._index, self._count = process_index, process_count
    self._memo = (None, None)

  def batch(self, step):
    """Returns this process's rows of the batch of one step.

    Args:
      step: non-negative; steps may be asked for in any order.

    Returns:
      {'inputs': int32 [B, L], 'targets': int32 [B, L], 'positions': int32 [B]}
      where B is this process's share and positions are global row indices.
    """
    if step < 0:
      raise ValueError(f'step {step} is negative')
    epoch, place = divmod(int(step), self.steps_per_epoch)
    length, size, rows = self._plan(epoch)[place]
    share = filled(size, self._multiple) // self._count
    positions = np.arange(share, dtype=np.int32) + share * self._index
    rows = rows[positions[0] : positions[0] + share]
    return {
      'inputs': self._source.padded(rows, share, length),
      'targets': self._target.padded(rows, share, length),
      'positions': positions,
    }

  @property
  def num_targets(self):
    """Target ids of an epoch, with an end id for every pair."""
    return int(np.sum(self._target.lengths + 1))

  def summary(self):
    """Says in one line how many steps, which shapes and how much padding."""
    slots = 0
    shapes = []
    for length, size, members in zip(
      self.bucket_lengths, self.batch_sizes, self._members, strict=True
    ):
      if len(members):
        shapes.append(f'{size}x{length}')
        slots += -(-len(members) // size) * size * length
    padding = 1 - self.num_targets / slots
    return (
      f'{len(self._source)} pairs, {self.steps_per_epoch} steps an epoch, '
      f'batches {" ".join(shapes)}, {padding:.1%} target padding'
    )

  def _plan(self, epoch):
    """Lists (length, batch size, rows) of an epoch; the newest is kept."""
    known, plan = self._memo
    if known != epoch:
      plan = self._make_plan(epoch)
      self._memo = (epoch, plan)
    return plan

  def _make_plan(self, epoch):
    bits = np.random.Philox(np.random.SeedSequence((self._seed, epoch)))
    plan = []
    for length, size, members in zip(
      self.bucket_lengths, self.batch_sizes, self._members, strict=True
    ):
      if self._shuffle:
        members = members[order(bits, len(members))]
      plan += [
        (length, size, members[start : start + size])
        for start in range(0, len(members), size)
      ]
    if self._shuffle:
      plan = [plan[i] for i in order(bits, len(plan))]
    return plan


def sentence_batches(sequences, *, bucket_lengths, batch_size):
  """Yields source sentences for decoding, neighbors in length together.

  A sentence longer than the longest bucket is not cut: its batch has the next
  multiple of that length.

  Args:
    sequences: sequences of ids, without end ids.
    bucket_lengths: the lengths that batches are padded to, ends included.
    batch_size: rows of every batch.

  Yields:
    (indices, ids): which sentences these are, [rows used], and int32
    [batch_size, L] with end ids; rows past the used ones are zeros.
  """
  buckets = _sorted_lengths(bucket_lengths)
  if batch_size < 1:
    raise ValueError(f'batch_size={batch_size} must be at least 1')
  flat = _Sequences(sequences)
  order = np.argsort(flat.lengths, kind='stable')
  for start in range(0, len(order), batch_size):
    indices = order[start : start + batch_size]
    longest = 1 + int(flat.lengths[indices[-1]])
    place = np.searchsorted(buckets, longest)
    if place < len(buckets):
      length = buckets[place]
    else:
      length = -(-longest // buckets[-1]) * buckets[-1]
    yield indices, flat.padded(indices, batch_size, length)


class _Sequences:
  """Sequences of ids in one flat array, lean where there are millions."""

  def __init__(self, sequences):
    self.lengths = np.array([len(ids) for ids in sequences], np.int64)
    self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
    self._ids = np.empty(self._starts[-1], np.int32)
    for i, ids in enumerate(sequences):
      self._ids[self._starts[i] : self._starts[i + 1]] = ids

  def __len__(self):
    return len(self.lengths)

  def padded(self, rows, num_rows, length):
    """Returns int32 [num_rows, length]: ids, an end id, zeros."""
    block = np.full((num_rows, length), corpus.PAD_ID, np.int32)
    for i, row in enumerate(rows):
      ids = self._ids[self._starts[row] : self._starts[row + 1]]
      block[i, : len(ids)] = ids
      block[i, len(ids)] = corpus.EOS_ID
    return block


def order(bits, size):
  """A random permutation of range(size) from a bit generator."""
  # A stable sort of raw bits: NumPy keeps bit streams over its versions, and
  # promises less for Generator.permutation.
  return np.argsort(bits.random_raw(size), kind='stable')


def _sorted_lengths(bucket_lengths):
  lengths = sorted({int(length) for length in bucket_lengths})
  if not lengths or lengths[0] < 1:
    raise ValueError(
      f'bucket_lengths={tuple(bucket_lengths)} must be positive lengths'
    )
  return lengths


def filled(size, multiple):
  """The next multiple from a number of rows on."""
  return -(-size // multiple) * multiple


def batch_size(length, batch_tokens):
  """Pairs in a batch of padded target tokens, without rows of padding."""
  if batch_tokens < 1:
    raise ValueError(f'batch_tokens={batch_tokens} must be at least 1')
  return max(1, batch_tokens // length)


def check_multiple(batch_multiple, process_count):
  """The value, if the rows of a batch divide among the processes."""
  if batch_multiple < 1:
    raise ValueError(f'batch_multiple={batch_multiple} must be at least 1')
  if batch_multiple % process_count:
    raise ValueError(
      f'batch_multiple={batch_multiple} rows do not divide among '
      f'process_count={process_count}; make it a multiple of that'
    )
  return batch_multiple


def _check(source, target):
  if len(source) != len(target):
    raise ValueError(
      f'{len(source)} source and {len(target)} target sequences; they must be '
      'aligned'
    )
  if not len(source):
    raise ValueError('no pairs to make batches of')


def check_share(seed, process_index, process_count):
  """Refuses a seed or a share of the batches that does not exist."""
  if seed < 0:
    raise ValueError(f'seed={seed} must not be negative')
  if not 0 <= process_index < process_count:
    raise ValueError(
      f'process_index={process_index} is not among the '
      f'process_count={process_count} processes'
    )


def _check_fits(lengths, bucket_lengths):
  too_long = int(np.sum(lengths > bucket_lengths[-1]))
  if too_long:
    raise ValueError(
      f'{too_long} of {len(lengths)} pairs are longer than the longest bucket '
      f'({bucket_lengths[-1]}; the longest pair has {lengths.max()} with its '
      'end id); add a longer one to bucket_lengths or leave them out with '
      'filters.keep'
    )
