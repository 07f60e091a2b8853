"""The registry of parameterizations, and `make`, which builds specs by name."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from tt_compress.parameterizations import (
  base,
  block_tensor_train,
  butterfly,
  dense,
  frozen,
  kronecker,
  low_rank,
  nonlinear_train,
  normalized,
  phm,
  pruned,
  quantized,
  size_options,
  sum,
  tensor_ring,
  tensor_train,
  tucker,
  variational_dropout,
  word2ket,
  word2ketxs,
)

REGISTRY: dict[str, type[base.Parameterization]] = {
  'dense': dense.Dense,
  'low_rank': low_rank.LowRank,
  'tensor_train': tensor_train.TensorTrain,
  'nonlinear_train': nonlinear_train.NonlinearTrain,
  'tensor_ring': tensor_ring.TensorRing,
  'block_tensor_train': block_tensor_train.BlockTensorTrain,
  'monarch': block_tensor_train.Monarch,
  'butterfly': butterfly.Butterfly,
  'tucker': tucker.Tucker,
  'kronecker': kronecker.Kronecker,
  'word2ket': word2ket.Word2Ket,
  'word2ketxs': word2ketxs.Word2KetXS,
  'phm': phm.PHM,
  'pruned': pruned.Pruned,
  'quantized': quantized.Quantized,
  'variational_dropout': variational_dropout.VariationalDropout,
  'normalized': normalized.Normalized,
  'frozen': frozen.Frozen,
  'sum': sum.Sum,
}

# Of other libraries.
_OTHER_NAMES = {
  'tt': 'tensor_train',
  'ttm': 'tensor_train',
  'blocktt': 'tensor_train',
  'tr': 'tensor_ring',
  'cp': 'word2ketxs',
  'svd': 'low_rank',
  'lora': 'low_rank',
  'int8': 'quantized',
}


def make(name: str, rows: int, cols: int, **options) -> base.Parameterization:
  """Builds the spec of a matrix [rows, cols] from a name and plain values.

  Args:
    name: an entry of REGISTRY.
    rows: number of rows.
    cols: number of columns.
    **options: fields of the entry. Lists become tuples. Specs inside of the
      spec, such as the `base` of a wrapper and the `parts` of a sum, are
      mappings with a `name` of their own. `rank` may stand for the rank of any
      entry, such as `tt_rank`. A size chooses the largest rank that fits:
      `compression_ratio` (dense / compressed parameters), `max_params`, or a
      rank that is a share of the rows * cols dense parameters, such as
      `rank=0.1`; `rank='same'` is as many as these. With a rank, a size and
      prefer='speed', a tensor train gets the modes with the fastest products;
      the default is 'size'.

  Raises:
    ValueError: an unknown name or option, a value of the wrong type, options
      that contradict each other or do not suit the matrix, or a matrix nothing
      of which is trained.
  """
  spec = _make(name, rows, cols, options)
  if not spec.num_params:
    raise ValueError(
      f'{name} of {rows} x {cols} has {spec.num_frozen} frozen numbers and '
      'nothing to train; make it a part of a sum with a trained part, or name '
      'the layer in optimizer.frozen instead'
    )
  return spec


def options(spec: base.Parameterization) -> dict[str, Any]:
  """The name and the options with which `make` builds a spec again."""
  names = {kind: name for name, kind in REGISTRY.items()}
  values = {
    field.name: _options_within(getattr(spec, field.name))
    for field in dataclasses.fields(spec)
    if field.repr and field.name not in ('rows', 'cols')
  }
  return {'name': names[type(spec)], **values}


def _options_within(value):
  if isinstance(value, tuple):
    return tuple(_options_within(entry) for entry in value)
  return options(value) if isinstance(value, base.Parameterization) else value


def _make(name, rows, cols, options):
  if name not in REGISTRY:
    raise ValueError(
      f'unknown parameterization {name!r}{_guess(name, REGISTRY)}; '
      f'choose one of {", ".join(REGISTRY)}'
    )
  cls = REGISTRY[name]
  options = {key: _plain(value) for key, value in options.items()}
  options = size_options.name_rank(name, cls, options)
  sizes = size_options.take(cls, options)
  prefer = options.pop('prefer', 'size')
  _check_names(name, cls, options)
  options = {
    key: _with_specs(value, f'{key} of {name}', rows, cols)
    for key, value in options.items()
  }
  _check_types(name, cls, options)
  options.update(rows=rows, cols=cols)
  _check_complete(name, cls, options, sizes)
  if prefer != 'size':
    return _fastest(name, cls, options, sizes, prefer)
  return _solve(name, cls, options, sizes) if sizes else cls(**options)


def _with_specs(value, place, rows, cols):
  """The value of an option with specs in place of mappings."""
  if isinstance(value, tuple):
    return tuple(_with_specs(entry, place, rows, cols) for entry in value)
  if not isinstance(value, Mapping):
    return value
  if 'name' not in value:
    raise ValueError(
      f'{place} needs a name, e.g. dict(name="dense"); got {value!r}'
    )
  inner = {key: entry for key, entry in value.items() if key != 'name'}
  return _make(value['name'], rows, cols, inner)


def _check_complete(name, cls, options, sizes):
  given = {*options, cls.rank_option} if sizes else {*options}
  missing = [
    field.name
    for field in dataclasses.fields(cls)
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
    and field.name not in given
  ]
  if missing:
    # A size determines a rank and no other option.
    is_rank = missing == [cls.rank_option]
    instead = f', or one of {", ".join(size_options.NAMES)}' if is_rank else ''
    raise ValueError(f'{name} needs {", ".join(missing)}{instead}')


def _fastest(name, cls, options, sizes, prefer):
  able = [entry for entry, kind in REGISTRY.items() if hasattr(kind, 'fastest')]
  if prefer != 'speed' or name not in able:
    raise ValueError(
      f"{name}: prefer={prefer!r} is not available; use 'size', or 'speed' for "
      f'{", ".join(able)}'
    )
  if not sizes or cls.rank_option not in options:
    raise ValueError(
      f"{name}: prefer='speed' needs {cls.rank_option} and one of "
      f'{", ".join(size_options.NAMES)}: modes are chosen for speed at a rank '
      'and a size'
    )
  return cls.fastest(size_options.max_params(name, options, sizes), **options)


def _solve(name, cls, options, sizes):
  if cls.rank_option in options:
    raise ValueError(
      f'{name}: {cls.rank_option} and {next(iter(sizes))} are both given; '
      'leave one out'
    )
  return cls.within(size_options.max_params(name, options, sizes), **options)


def _hints(cls):
  """{option: its annotated type}."""
  hints = typing.get_type_hints(cls)
  return {
    field.name: hints[field.name]
    for field in dataclasses.fields(cls)
    if field.name not in ('rows', 'cols')
  }


def _check_names(name, cls, options):
  valid = [*_hints(cls), *(size_options.NAMES if cls.rank_option else ())]
  for key in options:
    if key not in valid:
      raise ValueError(
        f'{name} has no option {key!r}{_guess(key, valid)}; '
        f'its options are {", ".join(valid) or "(none)"}'
      )


def _check_types(name, cls, options):
  hints = _hints(cls)
  for key, value in options.items():
    if not _suits(value, hints[key]):
      raise ValueError(
        f'{name}: {key}={value!r} is {type(value).__name__}, '
        f'expected {_type_name(hints[key])}'
      )


def _plain(value: Any) -> Any:
  """The value with tuples, dicts and numbers of Python alone."""
  if isinstance(value, list | tuple):
    return tuple(_plain(entry) for entry in value)
  if isinstance(value, Mapping) or hasattr(value, 'keys'):
    return {key: _plain(value[key]) for key in value.keys()}
  if hasattr(value, 'item') and getattr(value, 'shape', None) == ():
    return value.item()
  return value


def _suits(value, hint):
  """Whether a value has an annotated type; an int may stand for a float."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (types.UnionType, typing.Union):
    return any(_suits(value, argument) for argument in arguments)
  if origin is typing.Literal:
    return True  # The spec itself checks the value.
  if origin is tuple:
    return isinstance(value, tuple) and all(
      _suits(entry, arguments[0]) for entry in value
    )
  if isinstance(value, bool):
    return hint in (bool, Any)
  if hint is float:
    return isinstance(value, int | float)
  return hint is Any or isinstance(value, hint)


def _type_name(hint):
  if hint is base.Parameterization:
    return 'dict(name=...) with its options'
  if hint == tuple[base.Parameterization, ...]:
    return 'a tuple of dict(name=...) with their options'
  return hint.__name__ if isinstance(hint, type) else str(hint)


def _guess(word, words):
  close = difflib.get_close_matches(str(word), list(words), n=1)
  other = _OTHER_NAMES.get(word)
  best = other if other in words else close[0] if close else None
  return f', did you mean {best!r}?' if best else ''
