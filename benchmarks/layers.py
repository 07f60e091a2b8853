"""Single matrices beside dense ones: products, gradients, steps of Adam."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import layer_cases, records
from tt_compress import parameterizations
from tt_compress.nn import cross_entropy, embed
from tt_compress.parameterizations import base
from tt_compress.studies import timing

_EXPONENT = 1.15


def measure(
  cases: Sequence[layer_cases.Case] = layer_cases.CASES, **options
) -> list[dict[str, Any]]:
  """Times of every case over those of the dense matrix.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and kind of time: 'case', 'kind', 'ratio' and the
    rest of `timing.ratios`, 'goal', 'num_params'; for logits also 'memory',
    temporaries over those of dense.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'kind', 'ratio', 'goal', 'ratio_of_minima')
  columns += ('memory', 'memory_goal')
  rows = [[record.get(name) for name in columns] for record in found]
  return records.table(columns, rows)


def _measure(case, options):
  rows, cols = case.shape
  dense = parameterizations.make('dense', rows, cols)
  ours = parameterizations.make(case.name, rows, cols, **case.options)
  ours_loss = _in_blocks if case.work == 'logits' else _loss
  for kind, goal in case.goals.items():
    programs = {
      'dense': _program(case, dense, kind, _loss(case, dense)),
      'ours': _program(case, ours, kind, ours_loss(case, ours)),
    }
    times = timing.interleaved(
      {name: call for name, (call, _) in programs.items()}, **options
    )
    found = timing.ratios(times, 'ours', 'dense')
    record = {
      'case': case.text,
      'kind': kind,
      **{name: records.rounded(value) for name, value in found.items()},
      'goal': goal,
      'num_params': ours.num_params,
    }
    if case.work == 'logits':
      sizes = {name: size for name, (_, size) in programs.items()}
      memory = sizes['ours'] / sizes['dense']
      record |= {'memory': records.rounded(memory), 'memory_goal': case.memory}
    yield record


def _program(
  case: layer_cases.Case,
  spec: base.Parameterization,
  kind: str,
  loss: Callable[..., jax.Array],
) -> tuple[Callable[[], Any], int]:
  """A call without arguments, and the bytes of its temporaries."""
  factors = spec.init(jax.random.key(0), std=0.03)
  inputs = _inputs(case)
  if kind == 'step':
    return _step(loss, factors, inputs)
  if kind == 'forward':
    forward = _forward(case, spec)
    function = lambda factors, x, _: forward(factors, x)
  else:
    # Of x too, as inside of a network; ids have none.
    arguments = 0 if case.work == 'take' else (0, 1)
    function = jax.value_and_grad(loss, arguments)
  compiled = jax.jit(function).lower(factors, *inputs).compile()
  size = compiled.memory_analysis().temp_size_in_bytes
  return lambda: compiled(factors, *inputs), size


def _step(loss, factors, inputs):
  optimizer = optax.adam(1e-3)

  def update(state, *inputs):
    factors, moments = state
    gradients = jax.grad(loss)(factors, *inputs)
    changes, moments = optimizer.update(gradients, moments, factors)
    return optax.apply_updates(factors, changes), moments

  state = [(factors, optimizer.init(factors))]
  jitted = jax.jit(update, donate_argnums=0)
  compiled = jitted.lower(state[0], *inputs).compile()

  def call():
    state[0] = compiled(state[0], *inputs)
    return state[0]

  return call, compiled.memory_analysis().temp_size_in_bytes


def _forward(case, spec):
  if case.work == 'take':
    return spec.take
  return spec.apply if case.work == 'apply' else spec.attend


def _loss(case, spec):
  """A scalar whose gradients reach all factors: sums weighed at random."""
  forward = _forward(case, spec)
  if case.work == 'logits':
    return lambda factors, x, labels: jnp.mean(
      optax.softmax_cross_entropy_with_integer_labels(
        forward(factors, x), labels
      )
    )
  return lambda factors, x, weights: jnp.sum(forward(factors, x) * weights)


def _in_blocks(case, spec):
  """The mean of the cross-entropy, without all logits at once."""

  def loss(factors, x, labels):
    table = embed.Embed(spec.rows, spec.cols, spec=spec, rngs=nnx.Rngs(0))
    table.update(factors)
    weights = jnp.full(len(x), 1 / len(x))
    return cross_entropy.summed(table, x, labels, weights, blocks=case.blocks)

  return loss


def _inputs(case):
  draw = np.random.default_rng(0)
  rows, cols = case.shape
  normal = lambda size: jnp.asarray(draw.normal(size=(case.tokens, size)), 'f4')
  if case.work == 'take':
    return ids(case.ids, rows, case.tokens), normal(cols)
  if case.work == 'logits':
    return normal(cols), ids('zipf', rows, case.tokens)
  return normal(rows), normal(cols)


def ids(kind: str, rows: int, tokens: int) -> jax.Array:
  """Ids [tokens], uniform or by Zipf's law, p(i) ~ (i + 1)^-1.15."""
  draw = np.random.default_rng(1)
  if kind == 'uniform':
    return jnp.asarray(draw.integers(0, rows, tokens), jnp.int32)
  weights = (1.0 + np.arange(rows)) ** -_EXPONENT
  found = draw.choice(rows, size=tokens, p=weights / weights.sum())
  return jnp.asarray(found, jnp.int32)
