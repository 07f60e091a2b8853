"""A process that computes a `torch.nn.Linear` on request, for `products`.

  python -m benchmarks.products_torch KIND TOKENS ROWS COLS

KIND is 'forward' or 'gradient', the value and both gradients. The first line of
output is the version; each line of input is answered after one computation.
The process runs in an environment without JAX.
"""

import os
import sys

import torch


def main() -> None:
  [_, kind, *sizes] = sys.argv
  tokens, rows, cols = map(int, sizes)
  # As many as XLA uses.
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  layer = torch.nn.Linear(rows, cols, bias=False)
  x = torch.randn(tokens, rows, requires_grad=True)
  weights = torch.randn(tokens, cols)

  def gradient():
    total = (layer(x) * weights).sum()
    return torch.autograd.grad(total, [x, layer.weight])

  call = gradient if kind == 'gradient' else torch.no_grad()(lambda: layer(x))
  print(torch.__version__, flush=True)
  for _ in sys.stdin:
    call()
    print(flush=True)


if __name__ == '__main__':
  main()
