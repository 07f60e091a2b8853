"""Reads a folder of Hugging Face into the arrays of our model."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress import models, parameterizations, rules
from tt_compress.nn import keys, modules
from tt_compress.pretrained import (
  bert,
  family,
  gguf,
  gpt2,
  llama,
  marian,
  places,
  t5,
  tensors,
)

# By `model_type` in config.json.
FAMILIES = {
  'bert': bert.FAMILY,
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
    kind: name of its family in `FAMILIES`, or 'tt_compress'.
    config: the group `model` of a configuration: name and options of our model.
    variables: its arrays {'params', 'buffers'}, of NumPy.
    matrices: {path: rows, cols and options} of compressed matrices.
  """

  kind: str
  config: dict[str, Any]
  variables: dict[str, Any]
  matrices: dict[str, dict[str, Any]]

  def model(self) -> nnx.Module:
    """The model with the pretrained arrays."""
    graphdef, _, _ = modules.split(abstract(self.config, self.matrices))
    return modules.merge(graphdef, **jax.tree.map(jnp.asarray, self.variables))


def abstract(
  config: Mapping[str, Any], matrices: Mapping[str, Mapping[str, Any]]
) -> nnx.Module:
  """The model of a group `model` without arrays, with compressed matrices."""
  _, make = models.MODELS[config['name']]
  settings = models.options(config)

  def build():
    model = make(settings, rngs=keys.Rngs(0))
    found = modules.matrices(model)
    for path, chosen in matrices.items():
      options = dict(chosen)
      if not options.pop('bias', True):
        found[path].bias = None
      spec = parameterizations.make(**options)
      found[path].become(spec, spec.init(jax.random.key(0), std=1.0))
    return model

  return nnx.eval_shape(build, graph=True)


def load(folder: str) -> Pretrained:
  """Loads a model that `transformers`, `save` or `save_factors` wrote.

  Args:
    folder: holds `config.json`, whose `model_type` names the family, and
      `model.safetensors` or its parts with their index; or a GGUF file of a
      LLaMA.

  Raises:
    ValueError: a family or a setting that our models do not have, a damaged
      file, or tensors that are missing, surplus or of other shapes; names the
      file and all of the tensors.
  """
  if gguf.is_gguf(folder):
    settings, found = gguf.as_llama(gguf.read(folder))
  else:
    settings = family.Settings.read(folder)
    found = tensors.find(folder)
  if settings.require('model_type') == family.FACTORS:
    return _load_factors(folder, settings, found)
  kind, config = described(settings)
  model = _abstract(config, {}, settings.path)
  found = {
    family.rename(kind.renamed, name): tensor for name, tensor in found.items()
  }
  params = places.params(model, _read(kind, model, found, folder))
  variables = {'params': params, 'buffers': {}}
  return Pretrained(settings.require('model_type'), config, variables, {})


def config(folder: str) -> dict[str, Any]:
  """The group `model` of a configuration for a model, without its tensors.

  Args:
    folder: see `load`.

  Raises:
    ValueError: a family or a setting that our models do not have.
  """
  if gguf.is_gguf(folder):
    settings, _ = gguf.as_llama(gguf.read(folder))
  else:
    settings = family.Settings.read(folder)
  if settings.require('model_type') == family.FACTORS:
    return settings.require('model')
  return described(settings)[1]


def described(
  settings: family.Settings,
) -> tuple[family.Family, dict[str, Any]]:
  """The family that settings describe, and the group `model` for ours."""
  kind = settings.choose('model_type', None, FAMILIES)
  try:
    return kind, {'name': kind.model, **kind.options(settings)}
  except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
    raise ValueError(
      f'{settings.path} has settings of other types than a '
      f'{settings.require("model_type")} ({error!r})'
    ) from error


def _load_factors(folder, settings, found):
  config, matrices = settings.require('model'), settings.get('matrices', {})
  model = _abstract(config, matrices, settings.path)
  _compare(found, shapes(model), folder)
  _, *trees = modules.split(model)
  params, buffers = (
    jax.tree_util.tree_map_with_path(
      lambda path, leaf: found[_name(path)].read().astype(leaf.dtype), tree
    )
    for tree in trees
  )
  variables = {'params': params, 'buffers': buffers}
  return Pretrained(family.FACTORS, config, variables, matrices)


def shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
  """{path: shape} of all arrays of a model, which may be abstract."""
  _, *trees = modules.split(model)
  return {
    _name(path): leaf.shape
    for tree in trees
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _name(path):
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _abstract(config, matrices, path):
  try:
    return abstract(config, matrices)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f'{path} describes no model of ours: {error}') from None


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
  others = {*copies, *ignored}
  _compare(
    {name: tensor for name, tensor in found.items() if name not in others},
    {name: place.shape for name, place in table.items()},
    folder,
  )
  strange = {
    f'{name} in {tensor.file} has the type {tensor.kind}'
    for name, tensor in found.items()
    if name not in ignored and tensor.kind not in tensors.FLOATS
  }
  refuse(
    f'{folder} has numbers that are not floating-point numbers, such as those '
    'of quantized models, which are not supported',
    {'tensors': strange},
  )
  arrays, read = {}, {}
  for name, place in table.items():
    tensor = found[name].read().astype(np.float32)
    arrays |= place.arrays(tensor)
    if name in copies.values():
      read[name] = tensor
  differing = {
    f'{copy} in {found[copy].file} is not {name}'
    for copy, name in copies.items()
    if not np.array_equal(found[copy].read(), read[name])
  }
  refuse(f'{folder} has tensors that should be equal', {'tensors': differing})
  return arrays


def _compare(found, shapes, folder):
  """Refuses tensors that are missing, surplus or of other shapes."""
  refuse(
    f'{folder} does not hold the model that its settings describe',
    {
      'missing': set(shapes) - set(found),
      'surplus': set(found) - set(shapes),
    },
  )
  wrong = {
    f'{name} is {list(found[name].shape)}, not {list(shape)}'
    for name, shape in shapes.items()
    if found[name].shape != shape
  }
  refuse(f'{folder} has tensors of other shapes', {'tensors': wrong})


def refuse(complaint: str, groups: Mapping[str, Iterable[str]]) -> None:
  """Raises a ValueError that lists the names of all groups, if any."""
  parts = [
    f'{len(names)} {group}: {", ".join(sorted(names))}'
    for group, names in ((k, list(v)) for k, v in groups.items())
    if names
  ]
  if parts:
    raise ValueError(f'{complaint}: {"; ".join(parts)}')
