"""Reads a folder of Hugging Face into the arrays of our model."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress import models, rules
from tt_compress.nn import keys, modules
from tt_compress.pretrained import (
  family,
  gpt2,
  llama,
  marian,
  places,
  t5,
  tensors,
)

# By `model_type` in config.json.
FAMILIES = {
  'gpt2': gpt2.FAMILY,
  'llama': llama.FAMILY,
  'marian': marian.FAMILY,
  'mt5': t5.FAMILY,
  't5': t5.FAMILY,
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A pretrained model.

  Attributes:
    kind: name of its family in `FAMILIES`.
    config: the group `model` of a configuration: name and options of our model.
    variables: its arrays {'params', 'buffers'}, of NumPy in float32.
  """

  kind: str
  config: dict[str, Any]
  variables: dict[str, Any]

  def model(self) -> nnx.Module:
    """The model with the pretrained arrays."""
    graphdef, _, _ = modules.split(abstract(self.config))
    return modules.merge(graphdef, **jax.tree.map(jnp.asarray, self.variables))


def abstract(config: Mapping[str, Any]) -> nnx.Module:
  """The dense model of a group `model`, without arrays."""
  _, make = models.MODELS[config['name']]
  options = models.options(config)
  return nnx.eval_shape(lambda: make(options, rngs=keys.Rngs(0)), graph=True)


def load(folder: str) -> Pretrained:
  """Loads a model that `transformers` saved.

  Args:
    folder: holds `config.json`, whose `model_type` names the family, and
      `model.safetensors` or its parts with their index.

  Raises:
    ValueError: a family or a setting that our models do not have, a damaged
      file, or tensors that are missing, surplus or of other shapes; names the
      file and all of the tensors.
  """
  settings = family.Settings.read(folder)
  kind = settings.require('model_type')
  chosen = settings.choose('model_type', None, FAMILIES)
  config = {'name': chosen.model, **chosen.options(settings)}
  model = _abstract(config, settings.path)
  found = _renamed(tensors.find(folder), chosen.renamed)
  params = places.params(model, _read(chosen, model, found, folder))
  return Pretrained(kind, config, {'params': params, 'buffers': {}})


def _abstract(config, path):
  try:
    return abstract(config)
  except ValueError as error:
    raise ValueError(f'{path} describes no model of ours: {error}') from None


def _renamed(found, renamed):
  """The tensors under the names of the table."""
  first = lambda name: next(
    (
      match.expand(theirs)
      for pattern, theirs in renamed
      if (match := re.fullmatch(pattern, name))
    ),
    name,
  )
  return {first(name): tensor for name, tensor in found.items()}


def _read(kind, model, found, folder):
  """{path: array} of all tensors, after checks of their names and shapes."""
  table = places.names(places.of_model(kind, model))
  copies = {
    name: next(each for each in names if each in table)
    for name in set(found) - set(table)
    if (names := rules.first(kind.copies, name))
  }
  ignored = {
    name
    for name in found
    if any(re.fullmatch(pattern, name) for pattern in kind.ignored)
  }
  _refuse(
    f'{folder} does not hold the model that its {family.CONFIG_FILE} describes',
    {
      'missing': set(table) - set(found),
      'surplus': set(found) - set(table) - set(copies) - ignored,
    },
  )
  wrong = {
    f'{name} is {list(found[name].shape)}, not {list(place.shape)}'
    for name, place in table.items()
    if found[name].shape != place.shape
  }
  _refuse(f'{folder} has tensors of other shapes', {'tensors': wrong})
  arrays, read = {}, {}
  for name, place in table.items():
    tensor = found[name].read()
    arrays |= place.arrays(tensor)
    if name in copies.values():
      read[name] = tensor
  differing = {
    f'{copy} in {found[copy].file} is not {name}'
    for copy, name in copies.items()
    if not np.array_equal(found[copy].read(), read[name])
  }
  _refuse(f'{folder} has tensors that should be equal', {'tensors': differing})
  return arrays


def _refuse(complaint: str, groups: Mapping[str, Iterable[str]]) -> None:
  """Raises a ValueError that lists the names of all groups, if any."""
  parts = [
    f'{len(names)} {group}: {", ".join(sorted(names))}'
    for group, names in ((k, list(v)) for k, v in groups.items())
    if names
  ]
  if parts:
    raise ValueError(f'{complaint}: {"; ".join(parts)}')
