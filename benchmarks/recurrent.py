"""Recurrent layers relative to other libraries, a classifier to a dense one.

The layers of PyTorch are timed where it is installed, in the same process and
with a thread for each core that the process may use.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx

from benchmarks import layer_cases, networks, programs, records
from tt_compress import configuration, timing
from tt_compress.data import corpus
from tt_compress.nn import modules, recurrent

Call = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Case:
  """Functions to compare with 'ours'.

  Attributes:
    text: for a table.
    goals: of the time of 'ours' relative to another function, by its name; None
      for no goal.
    calls: makes the functions, by name; those of missing libraries are left
      out.
  """

  text: str
  goals: Mapping[str, float | None]
  calls: Callable[[], dict[str, Call]]


def _layers(batch, length, hidden, *, layers=1, directions=('forward',)):
  """The outputs and all gradients of LSTMs that read 2 * hidden features."""

  def calls():
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, length, 2 * hidden)).astype(np.float32)
    sizes = dict(layers=layers, both=len(directions) == 2)
    found = {'ours': _ours(x, hidden, layers, directions)}
    if layers == len(directions) == 1:
      found['nnx.RNN'] = _flax(x, hidden)
    if importlib.util.find_spec('torch'):
      found['torch.nn.LSTM'] = _torch(x, hidden, **sizes)
    else:
      logging.warning('PyTorch is not installed, and not compared with')
    return found

  text = f'LSTM {hidden}, {len(directions)} x {layers}, {batch} x {length}'
  return Case(text, {'torch.nn.LSTM': 1.0, 'nnx.RNN': None}, calls)


def _ours(x, hidden, layers, directions):
  model = recurrent.Recurrent(
    'lstm',
    x.shape[-1],
    hidden,
    num_layers=layers,
    directions=directions,
    rngs=nnx.Rngs(0),
  )
  graphdef, params, buffers = modules.split(model)
  return _gradient(
    lambda params, x: modules.merge(graphdef, params, buffers)(x)[0], params, x
  )


def _flax(x, hidden):
  cell = nnx.OptimizedLSTMCell(x.shape[-1], hidden, rngs=nnx.Rngs(0))
  graphdef, params, rest = nnx.split(nnx.RNN(cell), nnx.Param, ...)
  # Otherwise Flax draws it, and counts the draws in `rest`.
  carry = (jnp.zeros((len(x), hidden)), jnp.zeros((len(x), hidden)))

  def outputs(params, x):
    return nnx.merge(graphdef, params, rest)(x, initial_carry=carry)

  return _gradient(outputs, params, x)


def _gradient(function, params, x):
  loss = lambda params, x: jnp.sum(function(params, x) ** 2)
  compiled = jax.jit(jax.value_and_grad(loss, (0, 1)))
  return programs.repeated(compiled, params, jnp.asarray(x)).call


def _torch(x, hidden, layers, both):
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  layer = torch.nn.LSTM(
    x.shape[-1], hidden, layers, batch_first=True, bidirectional=both
  )
  inputs = torch.tensor(x, requires_grad=True)

  def call():
    layer.zero_grad()
    inputs.grad = None
    torch.sum(layer(inputs)[0] ** 2).backward()

  return call


def _classifier(path, length, *, tiny=False):
  """A training step of a configuration, whose dense twin is the other one."""

  def calls():
    config = configuration.load(f'{path}:tiny' if tiny else path)
    pair = {'ours': config, 'dense': configuration.twin(config)}
    return {
      name: _step(each, config.data.batch_size, length)
      for name, each in pair.items()
    }

  return Case(f'step of {path}, {length} words', {'dense': 1.0}, calls)


def _step(config, batch, length):
  words = config.model.vocab_size - corpus.UNK_ID - 1
  ids = layer_cases.ids('zipf', words, batch * length) + corpus.UNK_ID + 1
  arrays = {
    'inputs': ids.reshape(batch, length).astype(np.int32),
    'labels': np.zeros(batch, np.int32),
    'weights': np.ones(batch, np.float32),
    'positions': np.arange(batch, dtype=np.int32),
  }
  made = networks.training(config, arrays)
  return programs.stepping(made.update, made.start(), made.batch).call


CASES = (
  _layers(64, 256, 128),
  _layers(64, 256, 128, layers=2, directions=recurrent.DIRECTIONS),
  _classifier('configs/imdb_tt.py', 256),
)
TINY = (
  _layers(2, 3, 4),
  _classifier('configs/imdb_tt.py', 5, tiny=True),
)
ROUNDS = 7


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times relative to other implementations.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and each other function: 'case', 'reference' (its
    name), the values of `timing.ratios`, and 'goal' of the ratio.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'reference', 'ratio', 'goal', 'ms', 'reference_ms')
  return records.table_of(columns, found)


def _measure(case, options):
  times = timing.interleaved(case.calls(), **options)
  for name, goal in case.goals.items():
    if name in times:
      ratios = timing.ratios(times, 'ours', name)
      rounded = {key: records.rounded(value) for key, value in ratios.items()}
      yield {'case': case.text, 'reference': name, **rounded, 'goal': goal}
