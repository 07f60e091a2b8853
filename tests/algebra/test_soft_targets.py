"""The loss of a student against its definition, in values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import cross_entropy, soft_targets

ROWS, COLS, TOKENS = 10, 4, 7
SMOOTHING = 0.1


def project(shared, common, x, others):
  matrix, bias = shared
  return x @ matrix.T + bias[None]


def make(tokens=TOKENS, rows=ROWS, cols=COLS):
  """(W, bias), x, weights, targets, and (W, x) of a wider teacher."""
  random = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
  return (
    (normal(rows, cols), normal(rows)),
    normal(tokens, cols),
    jnp.asarray(random.uniform(size=tokens), jnp.float32),
    jnp.asarray(random.integers(0, rows, tokens), jnp.int32),
    (normal(rows, 2 * cols), normal(tokens, 2 * cols)),
  )


def softmax(logits):
  p = np.exp(logits - logits.max(axis=1, keepdims=True))
  return p / p.sum(axis=1, keepdims=True)


def expected(shared, x, weights, targets, teacher, temperature, weight):
  """(value, its gradients by shared, x, weights), in float64."""
  float64 = functools.partial(jax.tree.map, lambda a: np.asarray(a, np.float64))
  (matrix, bias), x, weights, teacher = map(
    float64, (shared, x, weights, teacher)
  )
  logits, theirs = x @ matrix.T + bias, teacher[1] @ teacher[0].T
  rows = len(matrix)
  labels = (1 - SMOOTHING) * np.eye(rows)[targets] + SMOOTHING / rows
  p, softer = softmax(logits), softmax(logits / temperature)
  q = softmax(theirs / temperature)
  divergences = np.sum(q * np.log(q / softer), axis=1)
  losses = (1 - weight) * -np.sum(labels * np.log(p), axis=1)
  losses += weight * temperature**2 * divergences
  d = (1 - weight) * (p - labels) + weight * temperature * (softer - q)
  d *= weights[:, None]
  return losses @ weights, ((d.T @ x, d.sum(axis=0)), d @ matrix, losses)


def loss(
  shared, x, weights, targets, teacher, *, temperature, weight, count, pad=0
):
  """As the library computes it; `pad` rows of the teacher do not count."""
  matrix, features = teacher
  return cross_entropy.by_tokens(
    project,
    shared,
    x,
    targets,
    weights,
    smoothing=SMOOTHING,
    num_blocks=count,
    rows=len(shared[0]) if pad else None,
    teacher=soft_targets.SoftTargets(
      arrays=jnp.pad(matrix, ((0, pad), (0, 0)), constant_values=9.0),
      x=features,
      project=lambda matrix, x: x @ matrix.T,
      temperature=temperature,
      weight=weight,
    ),
  )


def close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    ours,
    theirs,
  )


@pytest.mark.parametrize(
  'temperature, weight, count, pad',
  [(1.0, 0.5, 1, 0), (2.0, 0.3, 3, 0), (0.5, 1.0, 7, 3), (4.0, 0.9, 2, 1)],
)
def test_loss_and_gradients_are_the_definition(temperature, weight, count, pad):
  arguments = make()
  value, gradients = expected(*arguments, temperature, weight)
  compute = functools.partial(
    loss, temperature=temperature, weight=weight, count=count, pad=pad
  )
  np.testing.assert_allclose(jax.jit(compute)(*arguments), value, rtol=1e-5)
  found = jax.jit(jax.value_and_grad(compute, (0, 1, 2)))(*arguments)
  close(found, (value, gradients))


def test_a_teacher_gets_no_gradients():
  compute = functools.partial(loss, temperature=2.0, weight=0.5, count=3)
  found = jax.grad(compute, 4)(*make())
  assert not any(np.any(a) for a in found)


def test_a_student_that_is_its_teacher_learns_nothing():
  shared, x, weights, targets, _ = make()
  shared = shared[0], jnp.zeros(ROWS)
  compute = functools.partial(loss, temperature=2.0, weight=1.0, count=2)
  value, gradient = jax.value_and_grad(compute)(
    shared, x, weights, targets, (shared[0], x)
  )
  close((value, gradient), jax.tree.map(jnp.zeros_like, (value, gradient)))


def test_memory_is_less_than_that_of_all_logits():
  tokens, rows = 512, 1024
  arguments = make(tokens, rows, 16)
  compute = functools.partial(loss, temperature=2.0, weight=0.5, count=16)
  function = jax.jit(jax.grad(compute, (0, 1)))
  analysis = function.lower(*arguments).compile().memory_analysis()
  assert 0 < analysis.temp_size_in_bytes < 4 * tokens * rows / 2
