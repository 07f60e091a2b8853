"""Compiled functions with their arguments, to be called again and again."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from tt_compress.planning import compiled as compiler


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled function that holds its arguments.

  Attributes:
    call: without arguments; returns when the result is computed.
    memory: as `planning.compiled.memory` tells it.
  """

  call: Callable[[], Any]
  memory: dict[str, int]


def repeated(function: jax.stages.Wrapped, *arguments) -> Program:
  """A program that computes the same every time."""
  compiled = function.lower(*arguments).compile()
  call = blocking(lambda: compiled(*arguments))
  return Program(call, compiler.memory(compiled))


def stepping(update: jax.stages.Wrapped, state: Any, *inputs) -> Program:
  """A program that updates a state, which may be donated.

  Args:
    update: (state, *inputs) -> (state, anything), jitted.
    state: before the first call.
    *inputs: the same for all calls.
  """
  compiled = update.lower(state, *inputs).compile()
  call = blocking(following(compiled, state, *inputs))
  return Program(call, compiler.memory(compiled))


def blocking(function: Callable[[], Any]) -> Callable[[], Any]:
  """A function that returns when the arrays of another one are computed."""
  return lambda: jax.block_until_ready(function())


def following(update: Callable, state: Any, *inputs) -> Callable[[], Any]:
  """A call that updates a state and returns all of what `update` does."""
  held = [state]

  def call():
    found = update(held[0], *inputs)
    held[0] = found[0]
    return found

  return call
