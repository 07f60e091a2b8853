"""Products, gradients and steps of Adam of single matrices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import layer_cases, programs, records
from tt_compress import parameterizations, timing
from tt_compress.nn import cross_entropy, embed
from tt_compress.parameterizations import base

CASES, TINY = layer_cases.CASES, layer_cases.TINY
ROUNDS = 15


def measure(
  cases: Sequence[layer_cases.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Times of every case relative to the dense matrix.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and kind of time: 'case', 'kind', the values of
    `timing.ratios`, 'goal' and 'num_params'; for logits also 'memory', the
    temporaries relative to dense, and 'memory_goal'; with a `work_goal` also
    the ratio 'to_equal_work'.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'kind', 'ratio', 'goal', 'ratio_of_minima')
  columns += ('memory', 'memory_goal', 'to_equal_work', 'work_goal')
  return records.table_of(columns, found)


def _measure(case, options):
  for kind, goal in case.goals.items():
    pair = pair_of_programs(case, kind)
    calls = {name: made.call for name, made in pair.items()}
    if case.work_goal is not None:
      calls['equal'] = _equal_work(case, kind).call
    times = timing.interleaved(calls, **options)
    record = {
      'case': case.text,
      'kind': kind,
      **records.ratios(times),
      'goal': goal,
      'num_params': specs(case)['ours'].num_params,
    }
    if case.work == 'logits':
      sizes = {name: made.memory['temporaries'] for name, made in pair.items()}
      memory = sizes['ours'] / sizes['dense']
      record |= {'memory': records.rounded(memory), 'memory_goal': case.memory}
    if case.work_goal is not None:
      ratio = timing.ratios(times, 'ours', 'equal')['ratio']
      record |= {
        'to_equal_work': records.rounded(ratio),
        'work_goal': case.work_goal,
      }
    yield record


def specs(case: layer_cases.Case) -> dict[str, base.Parameterization]:
  """The specs of a case: 'ours' and 'dense'."""
  rows, cols = case.shape
  return {
    'dense': parameterizations.make('dense', rows, cols),
    'ours': parameterizations.make(case.name, rows, cols, **case.options),
  }


def pair_of_programs(
  case: layer_cases.Case, kind: str
) -> dict[str, programs.Program]:
  """The compiled 'forward', 'gradient' or 'step' of a case, 'ours' and 'dense'.

  A 'gradient' computes loss and gradients. The dense loss computes all logits
  at once.
  """
  loss = {'ours': _loss_in_blocks if case.work == 'logits' else _loss}
  return {
    name: _program(case, spec, kind, loss.get(name, _loss)(case, spec))
    for name, spec in specs(case).items()
  }


def _equal_work(case, kind):
  """A dense product of the same x with as many multiplications."""
  rows, _ = case.shape
  spec = parameterizations.make(
    'dense', rows, specs(case)['ours'].num_params // rows
  )
  return _program(case, spec, kind, _loss(case, spec))


def _program(case, spec, kind, loss):
  factors = spec.init(jax.random.key(0), std=0.03)
  inputs = _inputs(case, spec)
  if kind == 'step':
    return _step(loss, factors, inputs)
  if kind == 'forward':
    forward = product(case, spec)
    function = lambda factors, x, _: forward(factors, x)
  else:
    # Inside a network, x has a gradient, too; ids have none.
    arguments = 0 if case.work == 'take' else (0, 1)
    function = jax.value_and_grad(loss, arguments)
  return programs.repeated(jax.jit(function), factors, *inputs)


def _step(loss, factors, inputs):
  optimizer = optax.adam(1e-3)

  def update(state, *inputs):
    factors, moments = state
    gradients = jax.grad(loss)(factors, *inputs)
    changes, moments = optimizer.update(gradients, moments, factors)
    return (optax.apply_updates(factors, changes), moments), ()

  state = factors, optimizer.init(factors)
  return programs.stepping(jax.jit(update, donate_argnums=0), state, *inputs)


def product(
  case: layer_cases.Case, spec: base.Parameterization
) -> Callable[..., jax.Array]:
  """The method of a spec that a case measures."""
  if case.work == 'take':
    return spec.take
  return spec.apply if case.work == 'apply' else spec.attend


def _loss(case, spec):
  """A randomly weighted sum, so that all factors have gradients."""
  forward = product(case, spec)
  if case.work == 'logits':
    return lambda factors, x, labels: jnp.mean(
      optax.softmax_cross_entropy_with_integer_labels(
        forward(factors, x), labels
      )
    )
  return lambda factors, x, weights: jnp.sum(forward(factors, x) * weights)


def _loss_in_blocks(case, spec):
  """The mean cross-entropy, in blocks of logits."""

  def loss(factors, x, labels):
    table = embed.Embed(spec.rows, spec.cols, spec=spec, rngs=nnx.Rngs(0))
    table.update(factors)
    weights = jnp.full(len(x), 1 / len(x))
    return cross_entropy.summed(table, x, labels, weights, blocks=case.blocks)

  return loss


def _inputs(case, spec):
  draw = np.random.default_rng(0)
  rows, cols = spec.rows, spec.cols
  normal = lambda size: jnp.asarray(draw.normal(size=(case.tokens, size)), 'f4')
  ids = lambda kind: jnp.asarray(layer_cases.ids(kind, rows, case.tokens))
  if case.work == 'take':
    return ids(case.ids), normal(cols)
  if case.work == 'logits':
    return normal(cols), ids('zipf')
  return normal(rows), normal(cols)
