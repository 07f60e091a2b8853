"""Folders of random pretrained decoders, with a tokenizer of bytes."""

import json
import pathlib
from typing import Any

from flax import nnx

from tests.pretrained import peers, texts
from tt_compress import models, pretrained
from tt_compress.pretrained import family, loading


def write(
  folder: pathlib.Path, name: str, settings: dict[str, Any]
) -> pathlib.Path:
  """Writes a random model of a family, and returns its folder.

  Args:
    folder: where it is made.
    name: of a golden folder, whose settings it has.
    settings: that replace some of them.
  """
  golden = json.loads((peers.GOLDEN / name / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(golden | settings))
  _, config = loading.described(family.Settings.read(folder))
  _, make = models.MODELS['decoder']
  model = make(models.options(config), rngs=nnx.Rngs(0))
  pretrained.save(folder / 'saved', model, like=folder)
  texts.write(folder / 'saved')
  return folder / 'saved'
