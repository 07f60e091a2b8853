"""Exported programs, which run in processes without this package."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.pretrained import peers, test_loading, test_saving
from tt_compress.pretrained import programs

# As in the documentation.
READER = """
import pathlib, sys
import numpy as np
from jax import export
from safetensors import flax

folder = pathlib.Path(sys.argv[1])
data = bytearray((folder / 'model.stablehlo').read_bytes())
arrays = flax.load_file(folder / 'model.safetensors')
inputs = [np.load(path) for path in sys.argv[3:]]
np.save(sys.argv[2], export.deserialize(data).call(arrays, *inputs))
assert 'tt_compress' not in sys.modules and 'flax.nnx' not in sys.modules
"""


@pytest.mark.parametrize('name', ['llama', 'marian'])
def test_a_process_without_the_package_computes_the_same(name, tmp_path):
  _, model = test_saving.compressed(name)
  batch = peers.batch(name)
  shapes = [
    jax.ShapeDtypeStruct(each.shape[1:], np.int32) for each in batch.values()
  ]
  programs.save(tmp_path, model, shapes)
  expected = test_loading.logits(name, model)
  paths = []
  for key, each in batch.items():
    paths.append(str(tmp_path / f'{key}.npy'))
    np.save(paths[-1], np.concatenate([each, each[:1]]).astype(np.int32))
  found = tmp_path / 'logits.npy'
  subprocess.run(
    [sys.executable, '-c', READER, str(tmp_path), str(found), *paths],
    check=True,
    cwd=pathlib.Path(tmp_path),
    env={'PATH': '/usr/bin', 'JAX_PLATFORMS': 'cpu'},
    timeout=120,
  )
  np.testing.assert_allclose(
    np.load(found), np.concatenate([expected, expected[:1]]), atol=1e-5
  )
