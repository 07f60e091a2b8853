"""The language model of PyTorch that ours is compared with."""

import json
import lzma
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = 'a b c d e f g h\n' * 40


@pytest.mark.skipif(
  not os.environ.get('TT_COMPRESS_PEERS'),
  reason='TT_COMPRESS_PEERS names no environment with other packages',
)
def test_it_learns_a_text_that_repeats(tmp_path):
  for split in ('train', 'valid', 'test'):
    with lzma.open(tmp_path / f'wiki.{split}.tokens.xz', 'wt') as file:
      file.write(TEXT)
  found = subprocess.run(
    (
      pathlib.Path(os.environ['TT_COMPRESS_PEERS']) / 'bin/python',
      *('-m', 'benchmarks.language_torch', f'--data={tmp_path}'),
      *('--tokens=30000', '--width=16', '--dropout=0', '--rate=5'),
    ),
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  *validations, result = map(json.loads, found.stdout.splitlines())
  assert result['vocabulary'] == 9
  # One embedding, two layers of four gates with two biases, a bias of logits.
  assert result['num_params'] == 9 * 16 + 2 * 4 * (2 * 16**2 + 2 * 16) + 9
  assert min(line['validation'] for line in validations) < 1.2
  assert result['test'] < 1.2
