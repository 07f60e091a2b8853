"""`import tt_compress` is cheap, and its names and its help are right."""

import doctest
import pydoc
import subprocess
import sys

import pytest

import tt_compress
from tt_compress import configuration, nn, parameterizations
from tt_compress.nn import (
  calibration,
  compress,
  embed,
  explain,
  layer_by_layer,
  linear,
  serving,
)
from tt_compress.training import run


def test_importing_the_package_imports_none_of_its_dependencies():
  code = (
    'import sys, tt_compress; tt_compress.__version__; dir(tt_compress); '
    'print(*{name.partition(".")[0] for name in sys.modules})'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert not {'jax', 'flax', 'numpy', 'optax'} & set(done.stdout.split())


def test_public_names():
  expected = {
    'REGISTRY': parameterizations.REGISTRY,
    'Calibration': calibration.Calibration,
    'LayerByLayer': layer_by_layer.LayerByLayer,
    'Embed': embed.Embed,
    'Linear': linear.Linear,
    'Run': run.Run,
    'compress': compress.compress,
    'expand': serving.expand,
    'explain': explain.explain,
    'load_config': configuration.load,
    'make': parameterizations.make,
    '__version__': tt_compress.__version__,
  }
  assert set(tt_compress.__all__) == set(expected)
  assert set(expected) <= set(dir(tt_compress))
  for name, value in expected.items():
    assert getattr(tt_compress, name) is value
  assert (nn.Linear, nn.Embed) == (linear.Linear, embed.Embed)


def test_unknown_names():
  message = "no attribute 'TensorTrain'; its names are REGISTRY, Calibration, "
  with pytest.raises(AttributeError, match=message):
    tt_compress.TensorTrain  # noqa: B018
  message = "no attribute 'Calibrate'; did you mean 'Calibration'"
  with pytest.raises(AttributeError, match=message):
    tt_compress.Calibrate  # noqa: B018


def test_the_example_of_help():
  finder = doctest.DocTestFinder(recurse=False)
  [example] = finder.find(tt_compress, 'tt_compress')
  result = doctest.DocTestRunner().run(example)
  assert result.attempted > 10 and not result.failed


def test_help_describes_every_public_name():
  text = pydoc.render_doc(tt_compress, renderer=pydoc.plaintext)
  names = set(tt_compress.__all__) - {'__version__'}
  assert all(name in text for name in names)
  assert f'VERSION\n    {tt_compress.__version__}' in text
  assert 'Replaces the matrices of a model' in text
