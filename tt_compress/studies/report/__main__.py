"""Writes tables and figures anew from the numbers of studies.

python -m tt_compress.studies.report results/slides_mnist.json ...
"""

import os
import sys

from tt_compress.studies import results
from tt_compress.studies.report import write


def main(paths: list[str]) -> None:
  for path in paths:
    written = write.write(results.read(path), os.path.dirname(path) or '.')
    print('written:', *written)


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except (ImportError, OSError, ValueError) as error:
    sys.exit(f'error: {error}')
