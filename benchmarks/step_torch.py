"""A process that does training steps of `torch.nn.Transformer` on request.

  python -m benchmarks.step_torch WORK

WORK is a `step_work.Work` as JSON. The first line of output is the version;
each line of input is answered by the loss of a step. The process runs in an
environment without JAX.
"""

import json
import math
import os
import sys

import torch
from torch import nn
from torch.nn import functional

from benchmarks import decode_work, step_work


class _Model(nn.Module):
  """A pre-norm Transformer with one embedding, also of the logits."""

  def __init__(self, work: step_work.Work):
    super().__init__()
    self.embed = nn.Embedding(work.vocab, work.dim)
    nn.init.normal_(self.embed.weight, std=work.dim**-0.5)
    self.bias = nn.Parameter(torch.zeros(work.vocab))
    self.dropout = nn.Dropout(work.dropout)
    self.transformer = nn.Transformer(
      work.dim,
      work.heads,
      work.layers,
      work.layers,
      work.ffn,
      work.dropout,
      batch_first=True,
      norm_first=True,
    )
    for module in self.modules():
      if isinstance(module, nn.MultiheadAttention):
        module.dropout = 0.0
    self.register_buffer('positions', torch.tensor(work.positions()))

  def embedded(self, ids):
    x = self.embed(ids) * math.sqrt(self.embed.embedding_dim)
    return self.dropout(x + self.positions[: ids.shape[1]])

  def forward(self, sources, targets):
    """Logits [batch, length, vocab]."""
    length, is_padding = targets.shape[1], sources == decode_work.PAD
    x = self.transformer(
      self.embedded(sources),
      self.embedded(targets),
      tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
      src_key_padding_mask=is_padding,
      memory_key_padding_mask=is_padding,
      tgt_is_causal=True,
    )
    return functional.linear(x, self.embed.weight, self.bias)


def _stepper(work):
  """A function that does one step and returns the loss."""
  model = _Model(work)
  optimizer = torch.optim.Adam(
    model.parameters(),
    work.learning_rate,
    (work.b1, work.b2),
    work.eps,
    fused=True,
  )
  sources, targets = torch.randint(
    decode_work.UNK + 1, work.vocab, (2, work.batch, work.source)
  )
  shifted = targets.roll(1, dims=1)
  shifted[:, 0] = decode_work.BOS

  def step():
    optimizer.zero_grad()
    logits = model(sources, shifted)
    loss = functional.cross_entropy(
      logits.flatten(0, 1),
      targets.flatten(),
      ignore_index=decode_work.PAD,
      label_smoothing=work.smoothing,
    )
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), work.clip_norm)
    optimizer.step()
    return loss.item()

  return step


def main() -> None:
  [_, work] = sys.argv
  # As many as XLA uses.
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  step = _stepper(step_work.Work(**json.loads(work)))
  print(torch.__version__, flush=True)
  for _ in sys.stdin:
    print(step(), flush=True)


if __name__ == '__main__':
  main()
