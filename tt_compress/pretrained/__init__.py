"""Pretrained models of other libraries: their files, read and written.

  >>> from tt_compress import pretrained
  >>> found = pretrained.load('opus-mt-de-en')
  >>> model = found.model()

A model is an ordinary one of ours, so that `tt_compress.compress(model, rules,
rngs, fit=True)` compresses it. `found.config` is the group `model` of a
configuration. No other library than `safetensors` is needed.
"""

from tt_compress.pretrained.loading import FAMILIES, Pretrained, load

__all__ = ['FAMILIES', 'Pretrained', 'load']
