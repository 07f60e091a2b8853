"""Models, written without a word about compression.

An entry of `MODELS` is a pair of the class of a model's options and the class
of the model.
"""

from collections.abc import Mapping
from typing import Any

from tt_compress.models import (
  click,
  decoder,
  delight,
  delight_config,
  encoder,
  mlp,
  reader,
  seq2seq,
  text_classifier,
  transformer_xl,
)
from tt_compress.models.transformer import transformer, transformer_config

MODELS = {
  'click': (click.ClickConfig, click.Click),
  'decoder': (decoder.DecoderConfig, decoder.Decoder),
  'delight': (delight_config.DelightConfig, delight.Delight),
  'encoder': (encoder.EncoderConfig, encoder.Encoder),
  'mlp': (mlp.MLPConfig, mlp.MLP),
  'reader': (reader.ReaderConfig, reader.Reader),
  'seq2seq': (seq2seq.Seq2SeqConfig, seq2seq.Seq2Seq),
  'text_classifier': (
    text_classifier.TextClassifierConfig,
    text_classifier.TextClassifier,
  ),
  'transformer': (
    transformer_config.TransformerConfig,
    transformer.Transformer,
  ),
  'transformer_xl': (
    transformer_xl.TransformerXLConfig,
    transformer_xl.TransformerXL,
  ),
}


def options(settings: Mapping[str, Any]) -> Any:
  """The options of a model, from the group `model` of a configuration."""
  given = dict(settings)
  make, _ = MODELS[given.pop('name')]
  return make(**given)
