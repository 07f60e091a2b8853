"""Options of a function by name, as configurations give them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def check(
  function: Callable[..., Any],
  options: Mapping[str, Any],
  name: str,
  given: Sequence[str] = (),
) -> None:
  """Refuses options that a function does not have or lacks.

  Args:
    function: its keyword-only parameters are the options.
    options: by name.
    name: of the function, for errors.
    given: parameters that are no options, because the caller gives them.

  Raises:
    ValueError: an unknown or missing option; the valid ones are named.
  """
  known = {
    parameter.name: parameter
    for parameter in inspect.signature(function).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in given
  }
  for option in options:
    if option not in known:
      raise ValueError(
        f'unknown option {option!r} of {name}; it has {sorted(known)}'
      )
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(
        f'{name} needs the option {option!r}; it has {sorted(known)}'
      )
