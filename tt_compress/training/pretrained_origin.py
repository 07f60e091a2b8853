"""Pretrained models of other libraries, as the origin of a run."""

import os
from typing import Any

from flax import nnx

from tt_compress import models, pretrained
from tt_compress.nn import modules

PREFIX = 'hf:'
# Options that change how a model is trained, but not what it computes.
_OF_TRAINING = (
  'dropout',
  'attention_dropout',
  'ffn_dropout',
  'ffn_initialization',
  'initialization',
  'output_dropout',
  'scan_layers',
)


def is_pretrained(path: str) -> bool:
  """Whether `init_from` names a folder or a file of another library."""
  return path.startswith(PREFIX)


def absolute(path: str) -> str:
  """`init_from` with an absolute path behind its prefix, if it has one."""
  place = path.removeprefix(PREFIX)
  prefix = path[: len(path) - len(place)]
  return prefix + os.path.abspath(os.path.expanduser(place))


def load(config) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """The graph and the arrays {'params', 'buffers'} of a pretrained model.

  Args:
    config: of the run, whose `init_from` names the model.

  Raises:
    ValueError: the model of the run differs in more than its compression, or
      see `pretrained.load`.
  """
  path = config.init_from.removeprefix(PREFIX)
  found = pretrained.load(path)
  _check(config.model.to_dict(), found.config, path)
  graphdef, _, _ = modules.split(found.model())
  return graphdef, found.variables


def _check(own, theirs, path):
  if own['name'] != theirs['name']:
    raise ValueError(
      f'model.name={own["name"]!r}, but {path} holds a {theirs["name"]!r}'
    )
  own, theirs = (vars(models.options(each)) for each in (own, theirs))
  differing = [
    f'model.{name}={value!r} instead of {own[name]!r}'
    for name, value in theirs.items()
    if own[name] != value and name not in _OF_TRAINING
  ]
  if differing:
    raise ValueError(
      f'the model of this run is not the one in {path}; set '
      f'{", ".join(differing)}'
    )
