"""A study by its command, on idx files of one's own."""

import os
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from tt_compress.studies import results

ROOT = pathlib.Path(__file__).parents[1]
ONLY = 'slides-M0,slides-M6'


def write_idx(path, array):
  header = struct.pack(f'>{1 + array.ndim}I', 2048 + array.ndim, *array.shape)
  path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope='module')
def fashion(tmp_path_factory):
  """A folder of images of the shape of MNIST."""
  folder = tmp_path_factory.mktemp('data') / 'fashion'
  folder.mkdir()
  draw = np.random.default_rng(0)
  for part, number in (('train', 30), ('t10k', 10)):
    images = draw.integers(0, 256, (number, 28, 28))
    write_idx(folder / f'{part}-images-idx3-ubyte', images)
    labels = np.arange(number) % 10
    write_idx(folder / f'{part}-labels-idx1-ubyte', labels)
  return folder


def call(folder, data, *arguments):
  return subprocess.run(
    [
      sys.executable,
      '-m',
      'tt_compress.main',
      '--mode=study',
      '--config=configs/studies/slides_mnist.py:seeds=2',
      f'--config.data.path={data}',
      "--config.data.options={'num_validation':10}",
      '--config.num_steps=3',
      f'--config.study.output={folder / "results"}',
      f'--workdir={folder / "runs"}',
      *arguments,
    ],
    cwd=ROOT,
    env={**os.environ, 'HOME': str(folder)},
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.mark.full
def test_the_same_command_on_other_data(fashion, tmp_path):
  done = call(tmp_path, fashion, f'--config.study.only={ONLY}')
  assert done.returncode == 0, done.stderr
  name = 'slides_mnist-seeds=2-fashion-part'
  found = {path.name for path in (tmp_path / 'results').iterdir()}
  endings = ('.json', '.md', '.png', '-bits.png', '-training.png')
  assert found == {f'{name}{ending}' for ending in endings}
  result = results.read(str(tmp_path / 'results' / f'{name}.json'))
  assert [row.row.id for row in result.rows] == ONLY.split(',')
  for row, numbers in zip(result.rows, (203_530, 3574), strict=True):
    assert row.data == results.Data(
      train='20 images',
      validation='fashion train, validation',
      test='fashion t10k',
    )
    assert [run.values['numbers stored'] for run in row.runs] == [numbers] * 2
  assert '--mode=study' in result.command
  assert done.stdout.startswith('# MNIST in "Compressed Transformer"')
  assert '| slides-M6 | tensor train' in done.stdout
  # Figures and goals of MNIST do not apply.
  assert '> **OTHER DATA: ' in done.stdout
  for text in ('published accuracy', '0.9643', 'goal |', 'missed by'):
    assert text not in done.stdout


def test_damaged_files_are_named(fashion, tmp_path):
  broken = tmp_path / 'broken'
  shutil.copytree(fashion, broken)
  labels = broken / 'train-labels-idx1-ubyte'
  labels.write_bytes(labels.read_bytes()[:-3])
  done = call(tmp_path, broken, '--config.study.only=slides-M0')
  assert done.returncode == 1
  assert f'error: {labels}: 27 bytes of data, but the header says 30' in (
    done.stderr
  )
