"""Splits of a parallel text that has none."""

import array
import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping

import numpy as np
from absl import logging
from jaxtyping import Bool, Int
from scipy import sparse
from scipy.sparse import csgraph

from tt_compress.data import corpus, disk_cache, text_facts

# Changes when other pairs are held out of the same text.
_VERSION = 'held out 1'
_FILE = 'groups.npy'


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
    The pairs of each split in `sizes` and of 'train', which are read from
    `pairs` in every pass. Finding them takes 16 bytes per pair and more.

  Raises:
    ValueError: a size that is not positive, or too few groups for the sizes.
  """
  for name in sorted(sizes):
    if sizes[name] < 1:
      raise ValueError(f'num_{name}={sizes[name]} must be at least 1')
  groups = _groups(pairs)
  left, picked = np.arange(groups.max() + 1), {}
  counts = np.bincount(groups)
  for name in sorted(sizes):
    taken, left = _take(counts, left, sizes[name])
    picked[name] = np.isin(groups, taken)
    number = int(counts[taken].sum())
    if number < sizes[name]:
      raise ValueError(
        f'{pairs.name}: num_{name}={sizes[name]} of {len(pairs)} pairs cannot '
        'be held out; pairs that share a sentence stay together, which permits '
        f'num_{name}={number}'
      )
  picked['train'] = np.isin(groups, left)
  counted = {name: int(np.sum(chosen)) for name, chosen in picked.items()}
  logging.info('%s: split into %s', pairs.name, counted)
  return {
    name: corpus.part_of(
      pairs,
      Part(pairs, chosen),
      f'{pairs.name} ({name})',
      [_VERSION, sorted(sizes.items()), name],
    )
    for name, chosen in picked.items()
  }


@dataclasses.dataclass(frozen=True)
class Part:
  """Some of the pairs of a corpus, in their order.

  Attributes:
    pairs: all of them.
    chosen: which of them.
  """

  pairs: corpus.Corpus
  chosen: Bool[np.ndarray, ' pairs']

  def __iter__(self) -> Iterator[corpus.Pair]:
    return itertools.compress(self.pairs, self.chosen)


def key(sentence: str) -> str:
  """The words of a sentence; equal for sentences that differ in case only."""
  return ' '.join(re.findall(r'\w+', sentence.casefold())) or sentence


def _groups(pairs: corpus.Corpus) -> Int[np.ndarray, ' pairs']:
  """The group of each pair, found once if there are many."""
  if pairs.facts.bytes < text_facts.MIN_BYTES:
    return _read_groups(pairs)

  def write(made: str) -> None:
    np.save(os.path.join(made, _FILE), _read_groups(pairs))

  key = [_VERSION, pairs.digest]
  found = disk_cache.folder(text_facts.CACHE, key, write)
  return np.load(os.path.join(found, _FILE), allow_pickle=False)


def _read_groups(pairs: corpus.Corpus) -> Int[np.ndarray, ' pairs']:
  """The group of each pair; groups are numbered in the order of a hash."""
  hashes = array.array('Q')
  for pair in pairs:
    for sentence in pair:
      digest = hashlib.sha256(key(sentence).encode()).digest()
      hashes.append(int.from_bytes(digest[:8]))
  hashes, names = np.unique(np.array(hashes), return_inverse=True)
  source, target = names.reshape(-1, 2).T
  links = sparse.coo_array(
    (np.ones(len(source), bool), (source, target)), (len(hashes),) * 2
  )
  _, group = csgraph.connected_components(links, directed=False)
  # The hashes are in order, so that the first of a group is its smallest one.
  _, first = np.unique(group, return_index=True)
  rank = np.empty(len(first), np.int64)
  rank[np.argsort(first)] = np.arange(len(first))
  return rank[group[source]]


def _take(
  counts: Int[np.ndarray, ' groups'], order: Int[np.ndarray, ' some'], size: int
) -> tuple[Int[np.ndarray, ' taken'], Int[np.ndarray, ' left']]:
  """The first groups that have `size` pairs or fewer, and the other groups."""
  taken, total = [], 0
  for place, group in enumerate(order):
    if total == size:
      break
    if total + counts[group] <= size:
      taken.append(place)
      total += counts[group]
  return order[taken], np.delete(order, taken)
