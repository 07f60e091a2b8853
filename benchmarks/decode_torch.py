"""Beam search in plain PyTorch with cached keys and values.

For `decode_peers`: straightforward code, as many users would write it.
"""

import math

import torch
from torch.nn import functional

from benchmarks import decode_work


def load(
  work: decode_work.Work, weights: decode_work.Weights, threads: int
) -> decode_work.Engine:
  """A translator; see `decode_ctranslate2.load`."""
  torch.set_num_threads(threads)
  model = _Model(work, {name: torch.tensor(a) for name, a in weights.items()})
  return lambda sources: model.search(torch.tensor(sources)).tolist()


class _Model:
  def __init__(self, work, weights):
    self.work, self.weights = work, weights
    self.table = weights['embed/factors/matrix']
    self.positions = torch.tensor(work.positions())

  def linear(self, path, x):
    matrix = self.weights[f'{path}/factors/matrix']
    y = torch.addmm(self.weights[f'{path}/bias'], x.flatten(0, -2), matrix)
    return y.view(*x.shape[:-1], -1)

  def norm(self, path, x):
    scale, bias = (self.weights[f'{path}/{part}'] for part in ('scale', 'bias'))
    return functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-6)

  def heads(self, path, x):
    y = self.linear(path, x)
    return y.view(*y.shape[:2], self.work.heads, -1).transpose(1, 2)

  def keys_values(self, path, x):
    return [self.heads(f'{path}/{name}', x) for name in ('key', 'value')]

  def attend(self, path, x, keys, values):
    """x [batch, length, dim]; keys, values [batch, heads, source, head_dim]."""
    query = self.heads(f'{path}/query', x)
    y = functional.scaled_dot_product_attention(query, keys, values)
    return self.linear(f'{path}/out', y.transpose(1, 2).flatten(2))

  def feed_forward(self, path, x):
    y = self.norm(f'{path}/ffn_residual/norm', x)
    y = self.linear(f'{path}/ffn/up', y).relu()
    return x + self.linear(f'{path}/ffn/down', y)

  def embed(self, ids, positions):
    return self.table[ids] * math.sqrt(self.work.dim) + positions

  def encode(self, sources):
    x = self.embed(sources, self.positions[: sources.shape[1]])
    for k in range(self.work.layers):
      path = f'encoder/layers/{k}'
      y = self.norm(f'{path}/attention_residual/norm', x)
      keys, values = self.keys_values(f'{path}/attention', y)
      x = x + self.attend(f'{path}/attention', y, keys, values)
      x = self.feed_forward(path, x)
    return self.norm('encoder/final_norm', x)

  def step(self, ids, index, cache, context):
    """Logits of the ids after `ids` [hypothesis]; the cache is updated."""
    x = self.embed(ids[:, None], self.positions[index])
    for k, (keys, values) in enumerate(context):
      path = f'decoder/layers/{k}'
      part = f'{path}/self_attention'
      y = self.norm(f'{part}_residual/norm', x)
      for array, new in zip(cache[k], self.keys_values(part, y), strict=True):
        array[:, :, index] = new[:, :, 0]
      past = (array[:, :, : index + 1] for array in cache[k])
      x = x + self.attend(part, y, *past)
      part = f'{path}/cross_attention'
      y = self.norm(f'{part}_residual/norm', x)
      # The hypotheses of a sentence are queries of one attention.
      y = y.view(keys.shape[0], -1, y.shape[-1])
      x = x + self.attend(part, y, keys, values).view(x.shape)
      x = self.feed_forward(path, x)
    x = self.norm('decoder/final_norm', x[:, 0])
    return torch.addmm(self.weights['logits_bias'], x, self.table.T)

  def start(self, sources):
    """The context, and an empty cache, of each layer."""
    encoded = self.encode(sources)
    context = [
      self.keys_values(f'decoder/layers/{k}/cross_attention', encoded)
      for k in range(self.work.layers)
    ]
    heads, dim = self.work.heads, self.work.dim // self.work.heads
    shape = len(sources) * self.work.beam, heads, self.work.steps, dim
    cache = [[torch.zeros(shape), torch.zeros(shape)] for _ in context]
    return context, cache

  @torch.no_grad()
  def search(self, sources):
    batch, beam = len(sources), self.work.beam
    context, cache = self.start(sources)
    scores = torch.full((batch, beam), -math.inf)
    scores[:, 0] = 0
    ids = torch.full((batch * beam,), decode_work.BOS)
    outputs = torch.zeros((batch * beam, 0), dtype=torch.long)
    first = torch.arange(batch)[:, None] * beam
    for index in range(self.work.steps):
      logits = self.step(ids, index, cache, context)
      gains = functional.log_softmax(logits, -1).view(batch, beam, -1)
      scores, best = (scores[..., None] + gains).flatten(1).topk(beam)
      parents = (first + best // self.work.vocab).flatten()
      ids = (best % self.work.vocab).flatten()
      outputs = torch.cat([outputs[parents], ids[:, None]], dim=1)
      cache = [[array[parents] for array in pair] for pair in cache]
    return outputs.view(batch, beam, -1)[:, 0]
