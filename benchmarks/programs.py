"""Compiled functions with their arguments, for repeated calls."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from tt_compress.planning import compiled as compiler


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled function that holds its arguments.

  Attributes:
    call: takes no arguments; returns when the result is computed.
    memory: result of `planning.compiled.memory`.
    text: returns that of the compiled function.
  """

  call: Callable[[], Any]
  memory: dict[str, int]
  text: Callable[[], str]


def repeated(function: jax.stages.Wrapped, *arguments) -> Program:
  """A program that repeats the same call."""
  compiled = function.lower(*arguments).compile()
  call = blocking(lambda: compiled(*arguments))
  return Program(call, compiler.memory(compiled), compiled.as_text)


def stepping(update: jax.stages.Wrapped, state: Any, *inputs) -> Program:
  """A program that updates a state, which may be donated.

  Args:
    update: (state, *inputs) -> (state, anything), jitted.
    state: of the first call.
    *inputs: of every call.
  """
  compiled = update.lower(state, *inputs).compile()
  call = blocking(following(compiled, state, *inputs))
  return Program(call, compiler.memory(compiled), compiled.as_text)


def blocking(function: Callable[[], Any]) -> Callable[[], Any]:
  """The function, but it waits until its arrays are computed."""
  return lambda: jax.block_until_ready(function())


def following(update: Callable, state: Any, *inputs) -> Callable[[], Any]:
  """A call that updates a state and returns the result of `update`."""
  held = [state]

  def call():
    found = update(held[0], *inputs)
    held[0] = found[0]
    return found

  return call
