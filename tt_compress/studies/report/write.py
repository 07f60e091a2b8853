"""Writes the result of a study: numbers, tables and figures."""

import os

from tt_compress.studies import results, typed_json
from tt_compress.studies.report import markdown, plots
from tt_compress.training import records


def write(result: results.Result, folder: str) -> list[str]:
  """Writes NAME.json, NAME.md and the figures, and returns their paths.

  Args:
    result: of a study.
    folder: made if missing.
  """
  os.makedirs(folder, exist_ok=True)
  texts = {
    'json': typed_json.encode(result),
    'md': markdown.markdown(result),
  }
  paths = []
  for ending, content in texts.items():
    paths.append(os.path.join(folder, f'{result.name}.{ending}'))
    records.write_text(paths[-1], content)
  return [*paths, *plots.write(result, folder)]
