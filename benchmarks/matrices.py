"""Matrices to fit: trained in seconds, or random ones too large to train."""

import collections
import gzip
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tt_compress.data import sources

_NUM_WORDS, _DIM = 512, 64
_STEPS, _LEARNING_RATE, _DECAY = 500, 1e-2, 1e-4
_HIDDEN, _EPOCHS, _BATCH = 256, 5, 100


def bigram_embedding(seed: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
  """The embedding [512, 64] of log p(b | a) ~ <E[a], F[b]>, and its facts.

  It is trained on pairs of consecutive words of the embedded text. Each step
  uses all pairs, so that training is one compiled loop. Rows are sorted by
  frequency.
  """
  counts = _bigrams()
  embedding, nats = _train_bigrams(counts, jax.random.key(seed))
  facts = {
    'what': 'embedding of a bigram softmax on the embedded text',
    'training': f'{_STEPS} steps of Adam {_LEARNING_RATE:g} on all bigrams',
    'weight_decay': _DECAY,
    'seed': seed,
    'bigrams': int(counts.sum()),
    'first_loss': round(float(nats[0]), 3),
    'last_loss': round(float(nats[-1]), 3),
  }
  return np.asarray(embedding), facts


def _bigrams():
  corpus = sources.load('pairs', 'embedded', 'train', num_train=8000)
  texts = [
    re.findall(r'\w+|[^\w\s]', sentence.lower())
    for sentence in (*corpus.source, *corpus.target)
  ]
  frequency = collections.Counter(word for text in texts for word in text)
  kept = [word for word, _ in frequency.most_common(_NUM_WORDS)]
  number = {word: i for i, word in enumerate(kept)}
  counts = np.zeros((_NUM_WORDS, _NUM_WORDS), np.float32)
  for text in texts:
    for first, second in zip(text, text[1:], strict=False):
      if first in number and second in number:
        counts[number[first], number[second]] += 1
  return counts


@jax.jit
def _train_bigrams(counts, key):
  optimizer = optax.adam(_LEARNING_RATE)

  def loss(params):
    logits = params['embedding'] @ params['output'].T
    nats = -jnp.vdot(counts, jax.nn.log_softmax(logits)) / counts.sum()
    decay = sum(jnp.square(p).sum() for p in params.values())
    return nats + _DECAY * decay, nats

  def step(carry, _):
    params, state = carry
    gradients, nats = jax.grad(loss, has_aux=True)(params)
    updates, state = optimizer.update(gradients, state)
    return (optax.apply_updates(params, updates), state), nats

  embedding, output = 0.1 * jax.random.normal(key, (2, _NUM_WORDS, _DIM))
  params = {'embedding': embedding, 'output': output}
  carry = params, optimizer.init(params)
  (params, _), nats = jax.lax.scan(step, carry, length=_STEPS)
  return params['embedding'], nats


def mnist_weights(
  folder: str, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
  """The first weights [784, 256] of a 784-256-10 ReLU network, and its facts.

  Args:
    folder: has the four files of MNIST, such as train-images-idx3-ubyte or
      train-images-idx3-ubyte.gz.
    seed: of the initial weights and of the order of images.
  """
  images, labels = read_mnist(folder, 'train')
  rng = np.random.default_rng(seed)
  order = np.concatenate([rng.permutation(len(images)) for _ in range(_EPOCHS)])
  batches = order[: len(order) // _BATCH * _BATCH].reshape(-1, _BATCH)
  params = _train_network(images, labels, batches, jax.random.key(seed))
  images, labels = read_mnist(folder, 't10k')
  guesses = jnp.argmax(_logits(params, images), axis=-1)
  facts = {
    'what': 'first weights of a 784-256-10 ReLU network on MNIST',
    'training': f'{_EPOCHS} epochs of Adam 0.001, {_BATCH} images per step',
    'seed': seed,
    'test_accuracy': round(float(np.mean(guesses == labels)), 4),
  }
  return np.asarray(params['weights_0']), facts


def read_mnist(folder: str, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Images [n, 784] in [0, 1] and labels [n] of a split, 'train' or 't10k'.

  Raises:
    ValueError: a file is missing or not of the format.
  """
  images = _read_idx(folder, f'{split}-images-idx3-ubyte')
  labels = _read_idx(folder, f'{split}-labels-idx1-ubyte')
  return images.reshape(len(images), -1) / np.float32(255), labels


def _read_idx(folder, name):
  path = pathlib.Path(folder) / name
  zipped = path.with_name(f'{name}.gz')
  if not path.is_file() and not zipped.is_file():
    raise ValueError(
      f'{path} is missing, and so is {zipped.name}; --mnist must be a folder '
      'with the four idx files'
    )
  data = path.read_bytes() if path.is_file() else gzip.open(zipped).read()
  if data[:3] != b'\0\0\x08':
    raise ValueError(
      f'{path} starts with {data[:3]!r}, not with 0, 0, 8 as idx files of bytes'
    )
  end = 4 + 4 * data[3]
  return np.frombuffer(data[end:], np.uint8).reshape(
    np.frombuffer(data[4:end], '>i4')
  )


def _logits(params, images):
  hidden = jax.nn.relu(images @ params['weights_0'] + params['bias_0'])
  return hidden @ params['weights_1'] + params['bias_1']


@jax.jit
def _train_network(images, labels, batches, key):
  optimizer = optax.adam(1e-3)

  def loss(params, ids):
    logits = _logits(params, images[ids])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels[ids].astype(jnp.int32)
    ).mean()

  def step(carry, ids):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params, ids), state)
    return (optax.apply_updates(params, updates), state), None

  params = {}
  sizes = (images.shape[1], _HIDDEN, 10)
  keys = jax.random.split(key)
  for k in range(2):
    shape = sizes[k : k + 2]
    start = jax.nn.initializers.glorot_uniform()(keys[k], shape)
    params |= {f'weights_{k}': start, f'bias_{k}': jnp.zeros(shape[1])}
  carry = params, optimizer.init(params)
  (params, _), _ = jax.lax.scan(step, carry, batches)
  return params


def random_spectrum(rows: int, cols: int, seed: int = 0) -> np.ndarray:
  """A float32 matrix [rows, cols] with singular values near u_k / k.

  u_k are uniform in (1/2, 3/2). The left singular vectors are normal columns,
  orthogonal up to sqrt(cols / rows). The matrix is filled in blocks of rows, so
  that the peak of memory is that of the fit.
  """
  rng = np.random.default_rng(seed)
  values = rng.uniform(0.5, 1.5, cols) / np.arange(1, cols + 1)
  basis = np.linalg.qr(rng.standard_normal((cols, cols)))[0]
  right = (values[:, None] * basis / np.sqrt(rows)).astype(np.float32)
  matrix = np.empty((rows, cols), np.float32)
  for start in range(0, rows, 2**14):
    block = matrix[start : start + 2**14]
    block[...] = rng.standard_normal(block.shape, np.float32) @ right
  return matrix
