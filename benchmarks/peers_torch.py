"""Layers of `tensorly-torch` and `word2ket` relative to dense PyTorch.

  python -m benchmarks.peers_torch --output=FILE [--cases=FILE]

The module runs in a separate environment without JAX, `peer_cases.INSTALL`, and
imports only `timing` of the package. `benchmarks.peers` starts it.
"""

import argparse
import json
import os
import pathlib
import statistics

import numpy as np
import tltorch
import torch
import word2ket

from benchmarks import layer_cases, peer_cases
from tt_compress import timing


def measure(cases, rounds: int) -> list[dict]:
  """The fastest implementation of every case relative to the dense layer.

  Returns:
    A record for each case and kind: 'case', 'kind', 'implementation', 'ratio',
    'ms', 'reference_ms', 'num_params' and 'threads'.
  """
  return [_measure(case, kind, rounds) for case in cases for kind in case.goals]


def _measure(case, kind, rounds):
  layers = {'dense': _dense(case), **MAKERS[case.work, case.name](case)}
  calls = {name: _call(case, layer, kind) for name, layer in layers.items()}
  times = timing.interleaved(calls, rounds=rounds)
  medians = {name: statistics.median(found) for name, found in times.items()}
  dense = medians.pop('dense')
  best = min(medians, key=medians.get)
  return {
    'case': case.text,
    'kind': kind,
    'implementation': best,
    'ratio': medians[best] / dense,
    'ms': 1000 * medians[best],
    'reference_ms': 1000 * dense,
    'num_params': sum(p.numel() for p in layers[best].parameters()),
    'threads': torch.get_num_threads(),
  }


def _call(case, layer, kind):
  rows, cols = case.shape
  weights = torch.randn(case.tokens, cols)
  wanted = list(layer.parameters())
  if case.work == 'take':
    x = torch.from_numpy(layer_cases.ids(case.ids, rows, case.tokens)).long()
  else:
    x = torch.randn(case.tokens, rows, requires_grad=True)
    wanted.append(x)

  def gradient():
    return torch.autograd.grad((layer(x) * weights).sum(), wanted)

  return gradient if kind == 'gradient' else torch.no_grad()(lambda: layer(x))


def _dense(case):
  if case.work == 'take':
    return torch.nn.Embedding(*case.shape)
  return torch.nn.Linear(*case.shape, bias=False)


def _train_embedding(case):
  layer = tltorch.FactorizedEmbedding(
    *case.shape,
    auto_tensorize=False,
    tensorized_num_embeddings=case.options['row_modes'],
    tensorized_embedding_dim=case.options['col_modes'],
    factorization='blocktt',
    rank=case.options['tt_rank'],
  )
  return {'blocktt': layer}


def _linear(factorization, option):
  def make(case):
    return {
      f'{factorization}, {implementation}': tltorch.FactorizedLinear(
        case.options['row_modes'],
        case.options['col_modes'],
        bias=False,
        factorization=factorization,
        rank=case.options[option],
        implementation=implementation,
      )
      for implementation in ('factorized', 'reconstructed')
    }

  return make


def _ket(kind):
  def make(case):
    sizes = {name: case.options[name] for name in ('order', 'rank')}
    return {kind.__name__: kind(*case.shape, **sizes)}

  return make


MAKERS = {
  ('take', 'tensor_train'): _train_embedding,
  ('take', 'word2ketxs'): _ket(word2ket.EmbeddingKetXS),
  ('take', 'word2ket'): _ket(word2ket.EmbeddingKet),
  ('apply', 'tensor_train'): _linear('blocktt', 'tt_rank'),
  ('apply', 'tucker'): _linear('tucker', 'tucker_rank'),
}


def _tuples(found):
  """JSON with tuples in place of lists, as before it was written."""
  if isinstance(found, dict):
    return {name: _tuples(value) for name, value in found.items()}
  return tuple(found) if isinstance(found, list) else found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument(
    '--cases', type=pathlib.Path, help='JSON file; default all'
  )
  parser.add_argument('--rounds', type=int, default=9)
  options = parser.parse_args()
  torch.manual_seed(0)
  np.random.seed(0)
  # XLA uses all cores.
  torch.set_num_threads(os.cpu_count())
  cases = peer_cases.CASES
  if options.cases:
    cases = json.loads(options.cases.read_text())
    cases = [layer_cases.Case(**_tuples(case)) for case in cases]
  found = measure(cases, options.rounds)
  options.output.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()
