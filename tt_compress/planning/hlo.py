"""Parses the text of compiled programs: operations, shapes, groups."""

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

_HEADER = re.compile(r'(ENTRY )?%([\w.\-]+) .*\{$')
_OPERATION = re.compile(r'\s+(ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(
  r'(calls|to_apply|condition|body|branch_computations|true_computation|'
  r'false_computation|called_computations)=\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)'
)
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_GROUPS = re.compile(
  r'(?:replica_groups|source_target_pairs)=(.*?)'
  r'(?:, (?!device_ids)[a-z_]+=|$)'
)
_LISTED = re.compile(r'\{[{}\d, ]*\}')
_IOTA = re.compile(r'\[([\d,]+)\]<=(.*)')
_AXES = re.compile(
  r"mesh\[((?:'\w+'=\d+,?)+)\](?:, device_ids=\((.*)\))? \{((?:'\w+',?)+)\}"
)
_ORDER = re.compile(r'\[([\d,]+)\](?:T\(([\d,]+)\))?')


@dataclasses.dataclass(frozen=True)
class Operation:
  """One line of a computation.

  Attributes:
    name: of its result.
    kind: e.g. 'all-reduce'.
    shape: of the result, as text; a tuple has parentheses.
    inputs: text between the parentheses.
    attributes: text after the parentheses.
  """

  name: str
  kind: str
  shape: str
  inputs: str
  attributes: str

  @property
  def operands(self) -> list[str]:
    """Names of the operations whose results are the inputs."""
    return _NAME.findall(self.inputs)

  def called(self, *attributes: str) -> list[str]:
    """Names of the computations in the attributes; in all if none is given."""
    return [
      name
      for attribute, names in _CALLED.findall(self.attributes)
      if not attributes or attribute in attributes
      for name in _NAME.findall(names)
    ]


@dataclasses.dataclass(frozen=True)
class Computation:
  """Operations by name, in order, and the name of the last one."""

  operations: Mapping[str, Operation]
  root: str

  def inputs(self, operation: Operation) -> list[Operation]:
    """The operations whose results are the inputs of an operation."""
    return [self.operations[name] for name in operation.operands]


@dataclasses.dataclass(frozen=True)
class Program:
  """Computations by name, and the name of the first one."""

  computations: Mapping[str, Computation]
  entry: str


def parse(text: str) -> Program:
  """Parses the result of `Compiled.as_text` of a jitted function.

  Raises:
    ValueError: the text has no ENTRY.
  """
  computations, entry, operations, root = {}, None, {}, ''
  for line in text.splitlines():
    if header := _HEADER.match(line):
      operations, root, name = {}, '', header[2]
      entry = name if header[1] else entry
    elif line == '}':
      computations[name] = Computation(operations, root)
    elif found := _OPERATION.match(line):
      end = _end(line, found.end())
      operations[found[2]] = Operation(
        found[2], found[4], found[3], line[found.end() : end], line[end + 1 :]
      )
      root = found[2] if found[1] else root
  if entry is None:
    raise ValueError(f'no ENTRY in a program that begins {text[:80]!r}')
  return Program(computations, entry)


def _end(line, start):
  """The place of the parenthesis that closes the one before `start`."""
  depth = 1
  for place in range(start, len(line)):
    depth += {'(': 1, ')': -1}.get(line[place], 0)
    if not depth:
      return place
  raise ValueError(f'unbalanced parentheses: {line.strip()[:200]}')


def num_bytes(shape: str) -> int:
  """Bytes of an array or of all arrays of a tuple."""
  total = 0
  for dtype, sizes in _ARRAY.findall(shape):
    bits = {'pred': 8, 'token': 0}.get(dtype)
    if bits is None:
      bits = int(re.search(r'\d+', dtype)[0])
    for size in filter(None, sizes.split(',')):
      bits *= int(size)
    total += -(-bits // 8)
  return total


def first_shape(shape: str) -> tuple[int, ...]:
  """Sizes of an array, or of the first array of a tuple."""
  return tuple(_integers(_ARRAY.search(shape)[2]))


def groups(operation: Operation, size: int) -> np.ndarray:
  """Groups of devices that exchange arrays, int [groups, members].

  Args:
    operation: a collective; members of a pair are source and target.
    size: number of devices; an empty list of groups means one group of all.

  Raises:
    ValueError: the groups have an unknown form.
  """
  text = _GROUPS.search(operation.attributes)[1]
  if _LISTED.fullmatch(text):
    listed = [_integers(each) for each in re.findall(r'\{([\d, ]+)\}', text)]
    return np.array(listed or [range(size)])
  if iota := _IOTA.fullmatch(text):
    return _ordered(iota[2]).reshape(_integers(iota[1]))
  if axes := _AXES.fullmatch(text):
    return _along_axes(*axes.groups())
  raise ValueError(f'{operation.name}: cannot read the groups {text}')


def _along_axes(mesh, ids, along):
  """Groups along some axes of a mesh, e.g. of "'a'=2,'b'=4" along "'b'"."""
  sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", mesh)}
  along = re.findall(r"'(\w+)'", along)
  numbers = (
    np.arange(math.prod(sizes.values())) if ids is None else _ordered(ids)
  )
  order = [*(name for name in sizes if name not in along), *along]
  places = numbers.reshape([*sizes.values()])
  places = places.transpose([[*sizes].index(name) for name in order])
  return places.reshape(-1, math.prod(sizes[name] for name in along))


def _ordered(text):
  """Numbers of a list, or of a transposed range such as '[4,2]T(1,0)'."""
  if not (found := _ORDER.fullmatch(text)):
    return np.array(_integers(text))
  sizes, order = map(_integers, found.groups())
  numbers = np.arange(math.prod(sizes)).reshape(sizes)
  return numbers.transpose(order or range(len(sizes))).ravel()


def _integers(text: str | None) -> list[int]:
  return [int(each) for each in re.findall(r'\d+', text or '')]
