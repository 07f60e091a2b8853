"""Splits of a parallel text that has none."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from absl import logging

from tt_compress.data import corpus


def split(
  pairs: corpus.Corpus, sizes: Mapping[str, int]
) -> dict[str, corpus.Corpus]:
  """Holds pairs out of a training text, so that no two splits share a sentence.

  Pairs with a sentence in common, on either side and but for case and
  punctuation, form a group, as do pairs that are linked by others: all
  translations of "Go away!" are in one split. Groups are taken in the order of
  a hash of their sentences, so the splits depend neither on the order of the
  pairs nor on the direction of translation. Pairs keep their order.

  Args:
    pairs: all pairs.
    sizes: {'validation' or 'test': number of pairs}.

  Returns:
    The pairs of each split in `sizes` and of 'train'.

  Raises:
    ValueError: a size that is not positive, or too few groups for the sizes.
  """
  groups = _groups(pairs)
  left, picked = sorted(groups), {}
  for name in sorted(sizes):
    if sizes[name] < 1:
      raise ValueError(f'num_{name}={sizes[name]} must be at least 1')
    picked[name], left = _take(groups, left, sizes[name])
    if len(picked[name]) < sizes[name]:
      raise ValueError(
        f'{pairs.name}: num_{name}={sizes[name]} of {len(pairs)} pairs cannot '
        'be held out; pairs that share a sentence stay together, which permits '
        f'num_{name}={len(picked[name])}'
      )
  picked['train'] = sorted(i for digest in left for i in groups[digest])
  counts = {name: len(indices) for name, indices in picked.items()}
  logging.info('%s: split into %s', pairs.name, counts)
  return {
    name: corpus.Corpus(
      [pairs.source[i] for i in indices],
      [pairs.target[i] for i in indices],
      f'{pairs.name} ({name})',
    )
    for name, indices in picked.items()
  }


def key(sentence: str) -> str:
  """The words of a sentence; equal for sentences that differ in case only."""
  return ' '.join(re.findall(r'\w+', sentence.casefold())) or sentence


def _groups(pairs: corpus.Corpus) -> dict[bytes, list[int]]:
  """Indices of the pairs of each group, by the hash of the group."""
  parents: dict[str, str] = {}

  def root(name: str) -> str:
    while (parent := parents.setdefault(name, name)) != name:
      # Halving the path keeps the trees flat.
      parents[name] = name = parents.setdefault(parent, parent)
    return name

  keys = [key(sentence) for sentence in pairs.source]
  for name, sentence in zip(keys, pairs.target, strict=True):
    parents[root(name)] = root(key(sentence))
  digests: dict[str, bytes] = {}
  for name in parents:
    digest = hashlib.sha256(name.encode()).digest()
    digests[root(name)] = min(digest, digests.get(root(name), digest))
  groups: dict[bytes, list[int]] = {}
  for i, name in enumerate(keys):
    groups.setdefault(digests[root(name)], []).append(i)
  return groups


def _take(
  groups: Mapping[bytes, Sequence[int]], order: Sequence[bytes], size: int
) -> tuple[list[int], list[bytes]]:
  """Indices of at most `size` pairs of the first groups, and other groups."""
  indices, left = [], []
  for digest in order:
    if len(indices) + len(groups[digest]) <= size:
      indices += groups[digest]
    else:
      left.append(digest)
  return sorted(indices), left
