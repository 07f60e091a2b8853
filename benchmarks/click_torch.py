"""A process that updates sparse embeddings in PyTorch, for `clicks`.

  python -m benchmarks.click_torch LOOKUPS

LOOKUPS is a `click_cases.Lookups` as JSON. The first line of output is the
version of torch. Each line of input runs a step; the answer is its number. The
process runs in an environment without JAX.
"""

import itertools
import json
import os
import sys

import torch

from benchmarks import click_cases


def main() -> None:
  [_, text] = sys.argv
  step = stepper(click_cases.Lookups(**json.loads(text)))
  print(torch.__version__, flush=True)
  for number, _ in enumerate(sys.stdin):
    step()
    print(number, flush=True)


def stepper(work: click_cases.Lookups):
  """A function that runs a step."""
  # As many as XLA uses.
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  tables = [
    torch.nn.EmbeddingBag(rows, work.dim, mode='sum', sparse=True)
    for rows in work.cardinalities
  ]
  parameters = [p for table in tables for p in table.parameters()]
  optimizer = torch.optim.SparseAdam(parameters, lr=5e-4)
  ids = itertools.cycle(torch.tensor(work.ids()).permute(0, 2, 1).contiguous())
  offsets = torch.arange(work.batch, dtype=torch.int32)
  gradients = torch.tensor(work.gradients())

  def step():
    found = [
      table(column, offsets)
      for table, column in zip(tables, next(ids), strict=True)
    ]
    torch.cat(found, 1).backward(gradients)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  return step


if __name__ == '__main__':
  main()
