"""The configuration of a run: its settings, their variants and their files.

A file in `configs/` says only what makes its run different:

    def get_config(arguments=''):
      arguments = configuration.parse(arguments, rank=64)
      config = configuration.defaults('my_run', arguments)
      config.compress = (('embed', dict(name='tensor_train', tt_rank=...)),)
      return configuration.finish(config, arguments)
"""

from tt_compress.configuration.arguments import check_flags, load, parse
from tt_compress.configuration.checks import check
from tt_compress.configuration.flat import check_name, flatten
from tt_compress.configuration.options import check_model
from tt_compress.configuration.saved import differences, from_json, to_json
from tt_compress.configuration.settings import defaults
from tt_compress.configuration.variants import (
  DENSE_SUFFIX,
  finish,
  shrink,
  twin,
)

__all__ = [
  'DENSE_SUFFIX',
  'check',
  'check_flags',
  'check_model',
  'check_name',
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
