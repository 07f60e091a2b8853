"""The LSTM language model of `pytorch/examples` on words of WikiText-2.

  python -m benchmarks.language_torch --data=wikitext-2 --tokens=3481600

A baseline for `configs/studies/embeddings_t3.py`: the recipe of
`word_language_model`, which is SGD at 20, divided by 4 where validation does
not improve, gradients clipped at 0.25, dropout 0.2, 20 streams in segments of
35 words, an embedding that also makes the logits. It trains on as many words as
a row of the study and prints a line of JSON per validation, and one for the
test split at the best validation. It runs in an environment with PyTorch and
needs nothing else.

`--data` is the folder of `wiki.{train,valid,test}.tokens.xz`.
"""

import argparse
import copy
import json
import lzma
import math
import pathlib
import time

import torch
from torch import nn
from torch.nn import functional

SEGMENT, STREAMS, EVALUATED_STREAMS = 35, 20, 10


class LSTM(nn.Module):
  """Embedding, layers of LSTMs, and logits by the transposed embedding."""

  def __init__(self, words: int, width: int, layers: int, dropout: float):
    super().__init__()
    self.embed = nn.Embedding(words, width)
    nn.init.uniform_(self.embed.weight, -0.1, 0.1)
    self.lstm = nn.LSTM(width, width, layers, dropout=dropout)
    self.bias = nn.Parameter(torch.zeros(words))
    self.dropout = nn.Dropout(dropout)

  def forward(self, ids, state):
    """Logits [length, streams, words] and the state after them."""
    x, state = self.lstm(self.dropout(self.embed(ids)), state)
    x = self.dropout(x)
    return functional.linear(x, self.embed.weight, self.bias), state


def read(folder: pathlib.Path) -> tuple[dict[str, torch.Tensor], int]:
  """The ids of the words of every split, line ends among them; their number."""
  ids, splits = {}, {}
  for split in ('train', 'valid', 'test'):
    with lzma.open(folder / f'wiki.{split}.tokens.xz', 'rt') as lines:
      words = [word for line in lines for word in (*line.split(), '<eos>')]
    splits[split] = torch.tensor([ids.setdefault(w, len(ids)) for w in words])
  return splits, len(ids)


def segments(ids: torch.Tensor, streams: int):
  """(inputs, targets) [length, streams] of one epoch, in order."""
  ids = ids[: len(ids) // streams * streams].view(streams, -1).t()
  for start in range(0, len(ids) - 1, SEGMENT):
    length = min(SEGMENT, len(ids) - 1 - start)
    yield ids[start : start + length], ids[start + 1 : start + 1 + length]


def loss(model, inputs, targets, state):
  logits, state = model(inputs, state)
  return functional.cross_entropy(
    logits.flatten(0, 1), targets.flatten()
  ), state


@torch.no_grad()
def perplexity(model, ids) -> float:
  model.eval()
  total, count, state = 0.0, 0, None
  for inputs, targets in segments(ids, EVALUATED_STREAMS):
    mean, state = loss(model, inputs, targets, state)
    total, count = (
      total + mean.item() * targets.numel(),
      count + targets.numel(),
    )
  model.train()
  return math.exp(total / count)


def train(model, splits, tokens: int, rate: float, every: int):
  """Yields (words, rate, validation perplexity); ends with the best weights."""
  best, kept, seen, scored = math.inf, None, 0, 0
  while seen < tokens:
    state = None
    for inputs, targets in segments(splits['train'], STREAMS):
      mean, state = loss(model, inputs, targets, state)
      state = tuple(part.detach() for part in state)
      model.zero_grad()
      mean.backward()
      nn.utils.clip_grad_norm_(model.parameters(), 0.25)
      with torch.no_grad():
        for parameter in model.parameters():
          parameter.add_(parameter.grad, alpha=-rate)
      seen += targets.numel()
      if seen - scored >= every or seen >= tokens:
        scored = seen
        now = perplexity(model, splits['valid'])
        yield seen, rate, now
        if now < best:
          best, kept = now, copy.deepcopy(model.state_dict())
        else:
          rate /= 4
      if seen >= tokens:
        break
  model.load_state_dict(kept)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--tokens', type=int, required=True)
  parser.add_argument('--width', type=int, default=300)
  parser.add_argument('--layers', type=int, default=2)
  parser.add_argument('--dropout', type=float, default=0.2)
  parser.add_argument('--rate', type=float, default=20.0)
  parser.add_argument('--validations', type=int, default=4)
  parser.add_argument('--seed', type=int, default=1111)
  flags = parser.parse_args()
  torch.manual_seed(flags.seed)
  splits, words = read(flags.data)
  model = LSTM(words, flags.width, flags.layers, flags.dropout)
  num_params = sum(p.numel() for p in model.parameters())
  start, every = time.monotonic(), flags.tokens // flags.validations
  for seen, rate, found in train(
    model, splits, flags.tokens, flags.rate, every
  ):
    minutes = (time.monotonic() - start) / 60
    line = dict(words=seen, rate=rate, validation=found, minutes=minutes)
    print(json.dumps(line), flush=True)
  result = dict(
    num_params=num_params,
    vocabulary=words,
    test=perplexity(model, splits['test']),
    torch=torch.__version__,
    threads=torch.get_num_threads(),
    flags={name: str(value) for name, value in vars(flags).items()},
  )
  print(json.dumps(result), flush=True)


if __name__ == '__main__':
  main()
