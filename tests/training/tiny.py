"""Tiny models, trained on a mesh; what their steps send over it."""

import dataclasses
import functools
import re

import jax
import numpy as np
import optax

from tests.parameterizations import contract
from tt_compress import configuration, tasks
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.training import build, layout, step

NUM_STEPS = 10
OPTIMIZER = optax.sgd(0.5)
ROWS, LENGTH, DIM = 32, 6, 32
VOCAB = 50
PADDED_STEP = 3  # only 10 rows hold text: five of eight shards have none

TRAIN = dict(name='tensor_train', tt_rank=2, num_modes=2)
RULES = {
  'dense': (),
  # Of the embedding rows of padding, on the last device.
  'train': (('embed', dict(TRAIN, row_modes=(8, 7))), ('.*', TRAIN)),
  'nonlinear_train': (
    (
      'embed',
      dict(name='nonlinear_train', tt_rank=3, num_modes=3, between='gated'),
    ),
  ),
  'word2ketxs': (('embed', dict(name='word2ketxs', order=2, rank=2)),),
  't5': (('embed', dict(TRAIN, row_modes=(8, 7))), ('.*', TRAIN)),
  'seq2seq': (('.*_embed|logits', dict(name='word2ketxs', order=2, rank=2)),),
}
MODELS = {
  't5': dict(
    norm='pre',
    norm_kind='rms',
    use_bias=False,
    gated=True,
    ffn_initialization='fan_in',
    scale_attention=False,
    scale_embeddings=False,
    positions='relative',
    distance_buckets=4,
    max_distance=4,
  )
}


def make_config(kind='train', dropout=0.0):
  model = 'seq2seq' if kind == 'seq2seq' else 'transformer'
  config = configuration.defaults('test', configuration.parse(''), model=model)
  config.model.update(vocab_size=VOCAB, dropout=dropout)
  if model == 'seq2seq':
    sizes = dict(embed_dim=DIM, hidden_dim=16, output_dim=24)
    config.model.update(sizes, input_feeding=True)
  else:
    config.model.update(
      model_dim=DIM,
      ffn_dim=64,
      num_heads=2,
      num_encoder_layers=1,
      num_decoder_layers=1,
      # Rounding, which depends on the mesh, decides whether a ReLU near zero
      # passes a gradient.
      activation='gelu',
    )
  config.model.update(MODELS.get(kind, {}))
  config.compress = RULES[kind]
  config.dtype = 'float32'
  return config


def make_batch(number):
  random = np.random.default_rng(number)
  filled = 10 if number == PADDED_STEP else ROWS
  tokens = random.integers(3, VOCAB, size=(2, ROWS, LENGTH), dtype=np.int32)
  tokens[:, filled:] = 0
  # Sentences of different length, so shards differ in their weights.
  lengths = random.integers(2, LENGTH + 1, size=ROWS)
  tokens[:, np.arange(LENGTH)[None] >= lengths[:, None]] = 0
  return {
    'inputs': tokens[0],
    'targets': tokens[1],
    'positions': np.arange(ROWS, dtype=np.int32),
  }


@dataclasses.dataclass(frozen=True)
class Trained:
  """What is left of a run.

  Attributes:
    losses: of the steps.
    params: after the last one.
    program: of a step, as text.
    num_params: of the model.
    local_params: of one device.
  """

  losses: np.ndarray
  params: dict
  program: str
  num_params: int
  local_params: int


@functools.cache
def initial_variables(kind):
  one = sharding.make_mesh(devices=jax.devices()[:1])
  config = make_config(kind)
  return jax.device_get(build.initialize(config, sharding.replicated(one)))


def make_update(config, mesh, accumulation=1):
  """The step of SGD, the shapes of its state and their shardings."""
  blueprint = build.blueprint(config)
  shapes = jax.eval_shape(
    lambda variables: step.start(variables, OPTIMIZER), blueprint.variables
  )
  places = layout.of_run(config, blueprint, mesh).shardings(shapes)
  update = step.make_step(
    blueprint.graphdef,
    tasks.TASKS['translation'](config, blueprint.graphdef, None).loss,
    OPTIMIZER,
    mesh,
    seed=0,
    num_examples=1,
    accumulation=accumulation,
    shardings=places,
  )
  return update, shapes, places


@functools.cache
def train(kind='train', data=1, model=1, *, accumulation=1, dropout=0.0):
  """Ten steps of SGD, and the compiled program of a step."""
  config = make_config(kind, dropout)
  mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
  update, shapes, places = make_update(config, mesh, accumulation)
  state = step.initial_state(initial_variables(kind), OPTIMIZER, mesh, places)
  lowered = update.lower(state, sharding.put(make_batch(0), mesh))
  program = lowered.compile(contract.COMPILER)
  parts = [
    leaf.addressable_data(0) for leaf in jax.tree.leaves(state['params'])
  ]
  losses = []
  for number in range(NUM_STEPS):
    state, metrics = program(state, sharding.put(make_batch(number), mesh))
    losses.append(float(metrics['loss']))
  return Trained(
    np.array(losses),
    jax.device_get(state['params']),
    program.as_text(),
    modules.num_params(shapes['params']),
    modules.num_params(parts),
  )


def difference(first, second):
  """Largest distance of two parameters."""
  distances = jax.tree.map(
    lambda a, b: np.max(np.abs(a - b)), first.params, second.params
  )
  return max(jax.tree.leaves(distances))


SIZES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'pred': 1}
OPERATIONS = (
  'all-reduce',
  'all-gather',
  'all-to-all',
  'reduce-scatter',
  'collective-permute',
  'collective-broadcast',
)


def collectives(program):
  """(operation, bytes of each result, line) of those in a program as text."""
  pattern = rf'= (.*?) ({"|".join(OPERATIONS)})(?:-start)?\('
  found = []
  for line in program.splitlines():
    match = re.search(pattern, line)
    if match:
      results = re.findall(r'(\w+)\[([\d,]*)\]', match[1])
      sizes = [
        SIZES[dtype] * int(np.prod([int(n) for n in shape.split(',') if n]))
        for dtype, shape in results
      ]
      found.append((match[2], sizes, line))
  return found


def moved(program, operation='all-reduce'):
  """Bytes of the results of all operations of a kind in a program."""
  return sum(
    sum(sizes) for name, sizes, _ in collectives(program) if name == operation
  )
