"""Devices that need not be present, by name."""

import importlib.metadata
import importlib.util

import pytest

from tests.planning import test_device_plan
from tt_compress.planning import device_plan, gpus, targets

HAS_GPU_COMPILER = any(map(targets._is_installed, targets._GPU_COMPILERS))


@pytest.mark.parametrize(
  'name', ['0', '257', '-1', '8x8', 'v5e', 'eight', 'h100', 'v5e:8', 'b1:0']
)
def test_names_of_no_devices(name):
  with pytest.raises(ValueError, match=f"--devices='{name}' must be"):
    targets.check(name)


def test_gpus_fill_their_hosts():
  assert [gpus.topology(count) for count in (1, 8, 16)] == [
    '1x1x1',
    '1x1x8',
    '1x2x8',
  ]
  with pytest.raises(ValueError, match='12 GPUs do not fill hosts of 8'):
    targets.check('h100:12')


def test_a_gpu_is_described_by_its_data_sheet():
  text = gpus.description(gpus.GPUS['a100'])
  for fact in ('major: 8 minor: 0', 'core_count: 108', 'clock_rate_ghz: 1.41'):
    assert fact in text
  assert f'device_memory_size: {80 * 2**30}' in text


def test_compilers_that_are_missing(monkeypatch):
  def missing(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setattr(importlib.metadata, 'version', missing)
  with pytest.raises(ImportError, match='pip install libtpu'):
    targets.check('v5e:8x8')
  with pytest.raises(ImportError, match='jax-cuda13-plugin=='):
    targets.check('h100:8')


@pytest.mark.parametrize(
  'name, device, dtype',
  [
    pytest.param(
      'v5e:2x2',
      'TPU v5 lite',
      'bfloat16',
      marks=pytest.mark.skipif(
        importlib.util.find_spec('libtpu') is None,
        reason='libtpu is not installed',
      ),
    ),
    pytest.param(
      'h100:4',
      'NVIDIA H100 SXM',
      'bfloat16',
      marks=pytest.mark.skipif(
        not HAS_GPU_COMPILER, reason='jax-cuda13-pjrt is not installed'
      ),
    ),
  ],
)
def test_a_plan_for_devices_that_are_not_there(name, device, dtype):
  dense, ours = device_plan.make(test_device_plan.make_classifier(), name)
  for each in (dense, ours):
    assert each['mesh'] == {'data': 4, 'model': 1}
    assert (each['backend'], each['dtype']) == (device, dtype)
    assert each['data_bytes'] == 4 * (each['num_params'] + 2)
    assert each['kernels']['exchanges'] >= 1
    # Two products with each of the two matrices at least, for 8 examples.
    assert each['work']['flops'] > 2 * 8 * 2 * each['num_params'] / 2
