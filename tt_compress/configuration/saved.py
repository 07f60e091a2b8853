"""Configurations as text, and how two of them differ."""

import json

import ml_collections

from tt_compress import models, tasks
from tt_compress.configuration import arguments, flat, settings


def to_json(config: ml_collections.ConfigDict) -> str:
  """A configuration as JSON, for its workdir."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
  """The configuration that `to_json` wrote, with tuples in place of lists.

  Settings that an older version did not write get their defaults, so the
  default of a new setting must not change what is computed.
  """

  def tuples(value):
    if isinstance(value, list):
      return tuple(tuples(item) for item in value)
    if isinstance(value, dict):
      return {name: tuples(item) for name, item in value.items()}
    return value

  saved = _without_old_defaults(tuples(json.loads(text)))
  config = ml_collections.ConfigDict(_completed(saved))
  return config.lock()


def _completed(saved: dict) -> dict:
  """Settings and the defaults of missing ones, if task and model are known."""
  task, model = saved['task'], saved['model']['name']
  if task not in tasks.TASKS or model not in models.MODELS:
    return saved
  known = settings.defaults(
    '', arguments.parse(''), model=model, task=task
  ).to_dict()
  groups = {
    name: group | saved.get(name, {})
    for name, group in known.items()
    if isinstance(group, dict)
  }
  return known | saved | groups


def _without_old_defaults(saved: dict) -> dict:
  """Settings without options that the optimizer of an older run ignored.

  Before optimizers refused foreign options and had rules, b1 and momentum were
  written for each of them.
  """
  optimizer = saved.get('optimizer', {})
  if 'rules' in optimizer:
    return saved
  old = {'b1': 0.9}
  if optimizer.get('name') != 'sgd':  # whose checkpoints have that momentum
    old['momentum'] = 0.0
  kept = {
    name: value
    for name, value in optimizer.items()
    if name not in old or value != old[name]
  }
  return {**saved, 'optimizer': kept}


def differences(
  old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> list[str]:
  """The settings in which two configurations differ, one line each."""
  # As JSON, tuples equal lists.
  old, new = (
    flat.flatten(json.loads(to_json(config))) for config in (old, new)
  )
  return [
    f'{name}: {old.get(name, "absent")!r} -> {new.get(name, "absent")!r}'
    for name in sorted(old.keys() | new.keys())
    # A missing setting equals None.
    if old.get(name) != new.get(name)
  ]
