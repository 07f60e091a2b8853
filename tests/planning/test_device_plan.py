"""What a step takes on many devices, against states of known size."""

import math
import subprocess

import jax
import jax.numpy as jnp
import pytest

from tt_compress import configuration
from tt_compress.algebra import context, cost
from tt_compress.planning import compiled, device_plan
from tt_compress.training import build

TRAIN = dict(name='tensor_train', tt_rank=2, num_modes=2)


def make_config(*rules, **settings):
  config = configuration.defaults('test', configuration.parse(''))
  config.data.update(bucket_lengths=(4, 8), batch_tokens=160)
  config.model.update(
    vocab_size=64,
    model_dim=32,
    ffn_dim=64,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    tie_logits=False,
  )
  config.dense = dict(tie_logits=True)
  config.compress = rules
  config.update_from_flattened_dict(settings)
  return config


def make_classifier():
  """A run whose step compiles in a moment."""
  config = configuration.defaults(
    'classifier', configuration.parse(''), model='mlp', task='classification'
  )
  config.data.batch_size = 20
  config.model.sizes = (784, 64, 10)
  config.compress = (('layers/0', TRAIN),)
  return config


def num_bytes(tree):
  sizes = jax.tree.map(lambda a: math.prod(a.shape) * a.dtype.itemsize, tree)
  return sum(jax.tree.leaves(sizes))


@pytest.mark.parametrize(
  'rules, accumulation, rows',
  [
    pytest.param((), 1, 24, marks=pytest.mark.full),
    ((('.*', TRAIN),), 4, 32),
  ],
)
def test_eight_devices_exchange_their_gradients(rules, accumulation, rows):
  config = make_config(*rules, accumulation=accumulation)
  found = compiled.measure(config, jax.devices())
  params = build.blueprint(config).params
  size = num_bytes(params)
  assert found['num_params'] == found['device_params'] == size / 4
  # Gradients once a step, the sum of the losses, and of their weights.
  assert found['data_bytes'] == size + 8
  assert found['traffic'] == {'data': size + 8}
  assert found['mesh'] == {'data': 8, 'model': 1}
  assert (found['backend'], found['dtype']) == ('cpu', 'float32')
  # Parameters, two moments, two counters, and a share of the sentences; twenty
  # of them, until they divide.
  assert found['batch']['inputs'] == [rows, 8]
  assert found['padding'] == rows - 20
  batch = 4 * (8 + 8 + 1) * rows / 8
  assert found['memory']['arguments'] == pytest.approx(3 * size + batch, abs=16)
  assert found['memory']['temporaries'] > size
  assert found['memory']['outputs'] < 4000  # the state is updated in place


def test_layers_on_two_devices():
  rules = (('embed|logits', TRAIN), ('.*/ffn/.*', TRAIN))
  config = make_config(*rules, **{'mesh.model': 2})
  found = compiled.measure(config, jax.devices())
  assert found['mesh'] == {'data': 4, 'model': 2}
  assert found['device_params'] < found['num_params']
  assert set(found['traffic']) <= {'data', 'model', 'data+model'}
  assert found['traffic']['model'] > 0
  state = 3 * 4 * found['device_params']
  assert found['memory']['arguments'] < state + 2000


def test_a_plan_in_another_process():
  found = device_plan.make(make_classifier(), '16')
  assert [each['name'] for each in found] == ['classifier-dense', 'classifier']
  for each in found:
    assert each['mesh'] == {'data': 16, 'model': 1}
    assert each['batch']['images'] == [32, 784]
    assert each['data_bytes'] == 4 * (each['num_params'] + 2)
    assert each['kernels']['exchanges'] >= 1
    assert each['work']['flops'] > 0 and each['work']['bytes'] > 0
  told = device_plan.table(found)
  assert 'a step on data 16, model 1, compiled for cpu in float32' in told
  assert 'batches of 32 x 784, with 12 examples of padding' in told
  for each in found:
    assert f'{each["data_bytes"]:,}' in told


def test_a_step_that_does_not_compile():
  config = make_classifier()
  config.compress = ()
  config.mesh.model = 3
  with pytest.raises(
    RuntimeError, match='classifier-dense .* --devices=8: .*3'
  ):
    device_plan.make(config, '8')


def test_what_is_traced_for_other_devices():
  assert build.activation_dtype('auto') == jnp.float32
  with context.use(backend='tpu'):
    assert build.activation_dtype('auto') == jnp.bfloat16
    assert context.current().machine is cost.MACHINES['tpu']
  assert context.current().machine is cost.MACHINES['cpu']


def test_the_reason_of_a_failed_compilation_is_its_error():
  report = (
    'Traceback (most recent call last):\n'
    'jax.errors.JaxRuntimeError: INTERNAL: no tile sizes: %dot.1 = bf16[3]\n'
    '\n  <frozen runpy>:198:11 [_run_module_as_main]\n'
  )
  assert device_plan._reason(report, 'exit 1') == (
    'jax.errors.JaxRuntimeError: INTERNAL: no tile sizes: %dot.1 = bf16[3]'
  )
  assert device_plan._reason('killed\n', 'exit 1') == 'killed'
  assert device_plan._reason('', 'exit 137') == 'exit 137'


def test_products_without_tiles_are_those_of_a_library(monkeypatch):
  """Then the dense twin has the same kind of products."""
  seen = []

  def run(command, *, input, env, **options):
    flags, config = env['XLA_FLAGS'], configuration.from_json(input)
    seen.append((config.name, flags))
    failed = config.compress and 'triton' not in flags
    report = "Error: INTERNAL: Couldn't find output tile sizes of %dot.1"
    return subprocess.CompletedProcess(
      command, int(bool(failed)), '{"num_params": 7}', failed and report
    )

  monkeypatch.setattr(device_plan.subprocess, 'run', run)
  monkeypatch.setenv('XLA_FLAGS', '--xla_of_mine')
  found = device_plan.make(make_classifier(), '2')
  flags = '--xla_gpu_enable_triton_gemm=false'
  assert found == [{'num_params': 7, 'flags': flags}] * 2
  twins = ('classifier-dense', 'classifier')
  assert seen == [
    *((name, '--xla_of_mine') for name in twins),
    *((name, f'--xla_of_mine {flags}') for name in twins),
  ]
