"""Writes tables and figures anew from the numbers of studies.

python -m tt_compress.studies.report results/slides_mnist.json ...

With `--merge`, the files are parts of one study that ran in several folders or
on several hosts; the first file gets the runs of all of them.
"""

import argparse
import os
import sys

from tt_compress.studies import merging, results
from tt_compress.studies.report import write


def main(arguments: list[str]) -> None:
  """Reads the files of a command line and writes what they show."""
  parser = argparse.ArgumentParser(
    'python -m tt_compress.studies.report', description=__doc__
  )
  parser.add_argument('paths', nargs='+', metavar='FILE.json')
  parser.add_argument('--merge', action='store_true', help='into the first')
  given = parser.parse_args(arguments)
  found = [results.read(path) for path in given.paths]
  if given.merge:
    found = [merging.merge(found)]
  for path, result in zip(given.paths, found, strict=False):
    written = write.write(result, os.path.dirname(path) or '.')
    print('written:', *written)


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except (ImportError, OSError, ValueError) as error:
    sys.exit(f'error: {error}')
