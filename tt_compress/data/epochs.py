"""Which examples a step sees, as a pure function of the step."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Group:
  """Examples that may share a batch, because they are padded to one shape.

  Attributes:
    members: indices of the examples.
    batch_size: examples in a batch.
    length: of padded sequences; None where examples hold no sequences.
  """

  members: Int[np.ndarray, ' members']
  batch_size: int
  length: int | None = None

  def __post_init__(self) -> None:
    if self.batch_size < 1:
      raise ValueError(f'batch_size={self.batch_size} must be at least 1')

  @property
  def num_batches(self) -> int:
    return -(-len(self.members) // self.batch_size)


class Epochs:
  """Every example once per epoch, in an order that (seed, epoch) decide.

  A batch holds examples of one group; the last batch of a group may be smaller.

  Args:
    groups: the examples.
    seed: non-negative; decides the order.
    shuffle: False for the order of the groups and of their members.
    mix: whether shuffling reorders the batches, too, not only the members of a
      group; otherwise the small last batch of a group stays behind the others.

  Raises:
    ValueError: a negative seed.
  """

  def __init__(
    self,
    groups: Sequence[Group],
    *,
    seed: int = 0,
    shuffle: bool = True,
    mix: bool = True,
  ):
    if seed < 0:
      raise ValueError(f'seed={seed} must not be negative')
    self._groups = groups
    self._seed, self._shuffle, self._mix = seed, shuffle, mix
    self.num_steps = sum(group.num_batches for group in groups)
    self._memo: tuple[int | None, list] = (None, [])

  def at(self, step: int) -> tuple[Group, Int[np.ndarray, ' examples']]:
    """The group and the examples of a step; steps may come in any order.

    Raises:
      ValueError: a negative step.
    """
    if step < 0:
      raise ValueError(f'step {step} is negative')
    epoch, place = divmod(int(step), self.num_steps)
    if self._memo[0] != epoch:
      self._memo = (epoch, self._batches(epoch))
    return self._memo[1][place]

  def _batches(self, epoch: int) -> list:
    bits = np.random.Philox(np.random.SeedSequence((self._seed, epoch)))
    batches = []
    for group in self._groups:
      members = group.members
      if self._shuffle:
        members = members[_permutation(bits, len(members))]
      batches += [
        (group, members[start : start + group.batch_size])
        for start in range(0, len(members), group.batch_size)
      ]
    if self._shuffle and self._mix:
      batches = [batches[i] for i in _permutation(bits, len(batches))]
    return batches


def _permutation(
  bits: np.random.BitGenerator, size: int
) -> Int[np.ndarray, ' size']:
  # A stable sort of raw bits: NumPy keeps bit streams over its versions, and
  # promises less for Generator.permutation.
  return np.argsort(bits.random_raw(size), kind='stable')
