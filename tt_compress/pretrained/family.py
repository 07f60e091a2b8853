"""Families of pretrained models: settings to options, arrays to tensors."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tt_compress.pretrained import tensors

CONFIG_FILE = 'config.json'
# The `model_type` of a folder with factors.
FACTORS = 'tt_compress'
# Ours by the names of Hugging Face.
ACTIVATIONS = {
  'gelu': 'gelu_exact',
  'gelu_new': 'gelu',
  'gelu_pytorch_tanh': 'gelu',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}


class Settings:
  """The settings of `config.json`; messages name the file and the setting.

  Args:
    path: of the file.
    values: its settings.
  """

  def __init__(self, path: str, values: Mapping[str, Any]):
    self.path = path
    self.values = values

  @classmethod
  def read(cls, folder: str) -> 'Settings':
    """The settings of a folder.

    Raises:
      ValueError: it has no `config.json`, or that is no JSON object.
    """
    path = os.path.join(folder, CONFIG_FILE)
    return cls(path, tensors.read_json(path))

  def get(self, name: str, default: Any) -> Any:
    """A setting; null counts as absent."""
    found = self.values.get(name)
    return default if found is None else found

  def require(self, name: str) -> Any:
    """A setting that must be there.

    Raises:
      ValueError: it is not.
    """
    if self.values.get(name) is None:
      raise ValueError(f'{self.path} lacks {name!r}')
    return self.values[name]

  def choose(self, name: str, default: Any, known: Mapping[Any, Any]) -> Any:
    """The value in `known` for that of a setting.

    Raises:
      ValueError: it is none of them.
    """
    found = self.get(name, default)
    # A list or an object has no hash.
    if not any(found == each for each in known):
      raise ValueError(
        f'{self.path}: {name}={found!r} is not supported; it must be one of '
        f'{list(known)}'
      )
    return known[found]

  def expect(self, **values: Any) -> None:
    """Refuses settings that differ from these; absent ones do not.

    Raises:
      ValueError: names the first such setting.
    """
    for name, value in values.items():
      self.choose(name, value, {value: value})


class Row(NamedTuple):
  """Where a family keeps an array of our model.

  Tensors that hold several of our arrays, side by side, are named by several
  rows, in the order in which they hold them.

  Attributes:
    ours: pattern of the paths of the array, such as 'encoder/layers/0/ffn/up'.
    theirs: name of the tensor; `\\1` stands for what a group of `ours` matched.
    power: ours is theirs times model_dim^power.
    shape: names the sizes of the tensor among our options, if it has other
      axes than ours.
    when: our options under which the row counts.
  """

  ours: str
  theirs: str
  power: float = 0.0
  shape: tuple[str | int, ...] = ()
  when: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Family:
  """One architecture of pretrained models.

  Attributes:
    model: name of our model in `models.MODELS`.
    options: from settings to the options of our model.
    rows: of the name table.
    transposed: whether linear layers hold (outputs, inputs).
    renamed: (pattern, replacement) of names in other files of the family.
    copies: (pattern, names) of tensors that a file may hold although they equal
      the first of `names` that the model has.
    ignored: patterns of tensors that our model computes.
  """

  model: str
  options: Callable[[Settings], dict[str, Any]]
  rows: tuple[Row, ...]
  transposed: bool = True
  renamed: tuple[tuple[str, str], ...] = ()
  copies: tuple[tuple[str, tuple[str, ...]], ...] = ()
  ignored: tuple[str, ...] = ()


def rename(rules: Iterable[tuple[str, str]], name: str) -> str:
  """The name by the first (pattern, replacement) that matches, or itself."""
  for pattern, replacement in rules:
    match = re.fullmatch(pattern, name)
    if match:
      return match.expand(replacement)
  return name
