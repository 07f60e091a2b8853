"""Pretrained models of other libraries: their files, read and written.

  >>> from tt_compress import pretrained
  >>> found = pretrained.load('opus-mt-de-en')
  >>> model = found.model()

A model is an ordinary one of ours, so that `tt_compress.compress(model, rules,
rngs, fit=True)` compresses it. `found.config` is the group `model` of a
configuration. No other library than `safetensors` is needed.

  >>> pretrained.save('expanded', model, like='opus-mt-de-en')
  >>> pretrained.save_factors('factors', model, found.config)

`save` writes dense matrices under the names of the original model, so that
`transformers` loads the folder; `save_factors` writes factors, for `load`.
"""

from tt_compress.pretrained.loading import FAMILIES, Pretrained, config, load
from tt_compress.pretrained.saving import save, save_factors

__all__ = ['FAMILIES', 'Pretrained', 'config', 'load', 'save', 'save_factors']
