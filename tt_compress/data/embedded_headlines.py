"""Texts of the embedded language and their headlines, for use offline."""

from tt_compress.data import corpus, embedded

_LEFT_OUT = frozenset(('a', 'an', 'the', 'this', 'these', 'every', 'my', 'our'))


def load(
  split: str,
  *,
  num_train: int = 12_000,
  num_validation: int = 300,
  num_test: int = 300,
) -> corpus.Corpus:
  """Makes one split: two English sentences, and the main words of the first.

  Args:
    split: 'train', 'validation' or 'test', see `embedded.load`.
    num_train: number of training pairs.
    num_validation: number of validation pairs.
    num_test: number of test pairs.

  Returns:
    A `Corpus` of texts and headlines.

  Raises:
    ValueError: as `embedded.load`.
  """
  sentences = embedded.load(
    split, num_train=num_train, num_validation=num_validation, num_test=num_test
  ).target
  following = (*sentences[1:], sentences[0])
  texts = map(' '.join, zip(sentences, following, strict=True))
  headlines = map(_headline, sentences)
  return corpus.of_sides(
    tuple(texts), tuple(headlines), f'embedded headlines, a stand-in, {split}'
  )


def _headline(sentence: str) -> str:
  words = sentence.rstrip('.?').split()
  return ' '.join(word for word in words if word.lower() not in _LEFT_OUT)
