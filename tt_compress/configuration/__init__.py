"""The configuration of a run: its settings, their variants and their files.

A file in `configs/` says only what makes its run different:

    def get_config(arguments=''):
      arguments = configuration.parse(arguments, rank=64)
      config = configuration.defaults('my_run', arguments)
      config.compress = (('embed', dict(name='tensor_train', tt_rank=...)),)
      return configuration.finish(config, arguments)
"""

from typing import Any

from tt_compress import lazy

__all__ = [
  'DENSE_SUFFIX',
  'check',
  'check_flags',
  'check_model',
  'check_name',
  'choose',
  'defaults',
  'differences',
  'finish',
  'flatten',
  'from_json',
  'load',
  'parse',
  'shrink',
  'to_json',
  'twin',
]

_PLACES = {
  'DENSE_SUFFIX': ('variants', 'DENSE_SUFFIX'),
  'check': ('checks', 'check'),
  'check_flags': ('arguments', 'check_flags'),
  'check_model': ('options', 'check_model'),
  'check_name': ('flat', 'check_name'),
  'choose': ('arguments', 'choose'),
  'differences': ('saved', 'differences'),
  'finish': ('variants', 'finish'),
  'flatten': ('flat', 'flatten'),
  'from_json': ('saved', 'from_json'),
  'load': ('arguments', 'load'),
  'parse': ('arguments', 'parse'),
  'shrink': ('variants', 'shrink'),
  'to_json': ('saved', 'to_json'),
  'twin': ('variants', 'twin'),
  'defaults': ('settings', 'defaults'),
}


def __getattr__(name: str) -> Any:
  # At first use: a mistake in the arguments of a config file is found without
  # JAX, which takes a second to import.
  return lazy.attribute(__name__, _PLACES, name)
