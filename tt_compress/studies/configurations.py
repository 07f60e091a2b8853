"""The configuration of every run of a study."""

import copy
import os
from typing import Any

import ml_collections

from tt_compress import configuration
from tt_compress.studies import rows

# Settings that say which examples a run sees.
_DATA = ('source', 'path', 'options')
# Settings that a study gives to every run.
_GIVEN = {'seed', 'name', *(origin.setting for origin in rows.ORIGINS.values())}


def changes(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Settings that flags have changed since the study was made, by name.

  Raises:
    ValueError: a setting that the study itself gives to every run.
  """
  old, new = (configuration.flatten(part) for part in _versions(config))
  changed = {k: new[k] for k in new if k not in old or old[k] != new[k]}
  for setting in changed:
    _check_free(setting)
  return changed


def _versions(config):
  """The study's configuration as written and as it is now, without `study`."""
  now = configuration.to_json(own(config))
  # Through JSON, so that both have tuples where lists were written.
  return [
    configuration.from_json(text).to_dict()
    for text in (config.study.written, now)
  ]


def own(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The configuration that rows without a file of their own differ from."""
  made = copy.deepcopy(config)
  with made.unlocked():
    del made.study
  return made


def other_data(config: ml_collections.ConfigDict) -> str | None:
  """A name for data that differ from those of the table; None for the same."""
  if config.study.is_tiny:
    return 'generated'
  old, new = (
    {key: part['data'].get(key) for key in _DATA} for part in _versions(config)
  )
  if old == new:
    return None
  if new['path'] != old['path']:
    return os.path.basename(os.path.normpath(new['path']))
  return new['source'] if new['source'] != old['source'] else 'other-options'


def name(config: ml_collections.ConfigDict) -> str:
  """The name of a study's files; other data have files of their own."""
  found = None if config.study.is_tiny else other_data(config)
  return config.name if found is None else f'{config.name}-{found}'


def of_run(
  config: ml_collections.ConfigDict, row: rows.Row, seed: int
) -> ml_collections.ConfigDict:
  """The configuration of one run of a row.

  Settings come from the row's file or the study, then from flags, then from
  the row. Flags also change what a tiny study makes small.

  Args:
    config: of the study.
    row: one of its rows.
    seed: of the run.

  Raises:
    FileNotFoundError: the row's file does not exist.
    ValueError: an override of an unknown setting or of another type.
  """
  if row.config is None:
    made = own(config)
  else:
    made = configuration.load(row.config)
    for setting, value in changes(config).items():
      override(made, setting, value)
  made.name = f'{config.name}/{row.id}'
  made.seed = seed
  for setting, value in row.overrides.items():
    override(made, setting, value)
  if config.study.is_tiny:
    configuration.shrink(made)
    for setting, value in changes(config).items():
      if setting not in row.overrides:
        override(made, setting, value)
  return made.lock()


def override(
  config: ml_collections.ConfigDict, setting: str, value: Any
) -> None:
  """Replaces one setting, by its dotted name.

  Raises:
    ValueError: the setting is unknown, of another type or not free.
  """
  _check_free(setting)
  configuration.check_name(config, setting)
  try:
    config.update_from_flattened_dict({setting: value})
  except (KeyError, TypeError) as error:
    raise ValueError(f'override {setting}={value!r}: {error}') from error


def _check_free(setting):
  if setting in _GIVEN:
    raise ValueError(
      f'{setting} is set for every run of a study; leave the override out'
    )
