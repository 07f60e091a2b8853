"""Writes what is known of a study: numbers, a table, plots and a page."""

import json
import os
from collections.abc import Mapping

from tt_compress.studies.report import markdown, page, plots
from tt_compress.training import workdir


def write(result: Mapping, folder: str) -> list[str]:
  """Writes NAME.json, NAME.md, NAME.png and NAME.html, each whole.

  Args:
    result: as `Study.train` returns it, with 'command'.
    folder: made if missing.

  Returns:
    The paths.
  """
  os.makedirs(folder, exist_ok=True)
  texts = {
    'json': json.dumps(result, indent=1, ensure_ascii=False) + '\n',
    'md': markdown.markdown(result),
    'html': page.html(result),
  }
  paths = []
  for ending, content in texts.items():
    paths.append(os.path.join(folder, f'{result["name"]}.{ending}'))
    workdir.write_text(paths[-1], content)
  return [*paths, plots.write(result, folder)]
