"""How well a train fits a trained embedding under each order of its words.

  python -m benchmarks.token_order --workdir=FOLDER \
    --config=configs/sst_tt.py --order=words.txt

FOLDER holds a run with a dense embedding. The program prints the relative error
of the nearest train of the shape that the rules of the configuration give the
embedding: a cheap predictor of accuracies. It also writes the words in the
order of a balanced clustering of the trained embedding, for `order` of a
vocabulary.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags
from jaxtyping import Float

from benchmarks import records
from tt_compress import configuration, parameterizations
from tt_compress.data import word_order
from tt_compress.training import run, workdir

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the dense run.')
_CONFIG = flags.DEFINE_string(
  'config', 'configs/sst_tt.py', 'Configuration whose first rule is a train.'
)
_ORDER = flags.DEFINE_string('order', 'words.txt', 'File of words to write.')


def errors(
  matrix: Float[np.ndarray, 'rows cols'],
  orders: Mapping[str, Sequence[int]],
  choice: Mapping,
) -> list[dict]:
  """The relative errors of the nearest trains.

  Args:
    matrix: the embedding.
    orders: the rows of the matrix in an order, by its name.
    choice: options of the train.

  Returns:
    A record for each order and each order of digits: 'order', 'digits' and
    'error', relative to the norm of the matrix.
  """
  found = []
  for name, order in orders.items():
    for digits in ('row_major', 'column_major'):
      options = dict(choice, index_order=digits)
      spec = parameterizations.make(
        rows=matrix.shape[0], cols=matrix.shape[1], **options
      )
      arranged = matrix[np.asarray(order)]
      gap = arranged - np.asarray(spec.full(spec.fit(arranged)))
      error = float(np.linalg.norm(gap) / np.linalg.norm(matrix))
      found.append({'order': name, 'digits': digits, 'error': error})
  return found


def orders(
  words: Sequence[str],
  num_specials: int,
  texts: Sequence[Sequence[str]],
  matrix: Float[np.ndarray, 'rows cols'],
) -> dict[str, list[int]]:
  """Rows of an embedding in every order; special ones and unused ones stay.

  Args:
    words: of a vocabulary, by frequency.
    num_specials: number of those that stay first.
    texts: their words.
    matrix: the embedding.
  """
  plain = words[num_specials:]
  found = {
    name: order(plain, texts) for name, order in word_order.ORDERS.items()
  }
  rows = matrix[num_specials : len(words)]
  found['embedding'] = word_order.by_vectors(rows)
  head, tail = range(num_specials), range(len(words), len(matrix))
  return {
    name: [*head, *(order + num_specials).tolist(), *tail]
    for name, order in found.items()
  }


def main(argv):
  if len(argv) > 1 or _WORKDIR.value is None:
    raise app.UsageError('give --workdir=FOLDER and no other arguments')
  made = run.Run(workdir.load_config(_WORKDIR.value), _WORKDIR.value)
  factors = made.variables(made.chosen)['params']['embed']['factors']
  if set(factors) != {'matrix'}:
    raise app.UsageError(f'{_WORKDIR.value} has no dense embedding')
  matrix = np.asarray(factors['matrix'])
  vocabulary = made.task.words.value
  texts = [vocabulary.split(text) for text in made.task.load('train').texts]
  found = orders(vocabulary.words, vocabulary.num_specials, texts, matrix)
  words = vocabulary.words
  listed = [words[i] for i in found['embedding'] if i < len(words)]
  pathlib.Path(_ORDER.value).write_text(
    '\n'.join(listed[vocabulary.num_specials :]) + '\n', encoding='utf-8'
  )
  [(_, choice), *_] = configuration.load(_CONFIG.value).compress
  measured = errors(matrix, found, choice)
  print(records.table_of(('order', 'digits', 'error'), measured))


if __name__ == '__main__':
  app.run(main)
