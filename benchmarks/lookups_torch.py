"""A process that trains sparse embeddings of PyTorch on request, for `lookups`.

  python -m benchmarks.lookups_torch WORK

WORK is a `lookup_work.Work` as JSON. The first line of output is the version of
PyTorch. Each line of input asks for one step, and each further line of output
is its loss. The process runs in an environment without JAX.
"""

import json
import os
import sys

import torch

from benchmarks import lookup_work


def main() -> None:
  work = lookup_work.Work(**json.loads(sys.argv[1]))
  # As many as XLA uses.
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  step = make_step(work)
  print(torch.__version__, flush=True)
  for _ in sys.stdin:
    print(step(), flush=True)


def make_step(work: lookup_work.Work):
  """The function: () -> loss of one step of SparseAdam."""
  tables = [
    torch.nn.Embedding(work.rows, work.cols, sparse=True)
    for _ in range(work.tables)
  ]
  params = [table.weight for table in tables]
  optimizer = torch.optim.SparseAdam(params, lr=lookup_work.RATE)
  ids = torch.from_numpy(work.ids()).long()
  weights = torch.from_numpy(work.weights())

  def step():
    optimizer.zero_grad()
    rows = (table(own) for table, own in zip(tables, ids, strict=True))
    loss = sum((each * weights).sum() for each in rows)
    loss.backward()
    optimizer.step()
    return float(loss)

  return step


if __name__ == '__main__':
  main()
