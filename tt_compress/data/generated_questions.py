"""Generated texts with questions about them, to try a run without any data."""

import numpy as np

from tt_compress.data import corpus, questions

_THINGS = tuple('box ball cup door hat key lamp pen ring tree'.split())
_KINDS = tuple('age color maker name owner place price size'.split())
_VALUES = tuple(
  'Ada Bern blue cheap gold green large Lima new old red Rome small tall '
  'white wide'.split()
)


def load(
  split: str,
  *,
  num_train: int = 1000,
  num_validation: int = 200,
  num_test: int = 200,
  seed: int = 0,
) -> questions.Questions:
  """Texts such as "The color of the cup is light blue.", and what they answer.

  An answer has one or two words.

  Args:
    split: 'train', 'validation' or 'test'.
    num_train: number of questions of that split, as the next two.
    num_validation: see above.
    num_test: see above.
    seed: of the texts.
  """
  number = dict(train=num_train, validation=num_validation, test=num_test)
  rng = np.random.default_rng([seed, corpus.SPLITS.index(split)])
  examples = [_example(rng) for _ in range(number[split])]
  name = f'generated questions, a stand-in, {split}'
  return questions.Questions(*zip(*examples, strict=True), name)


def _example(
  rng: np.random.Generator,
) -> tuple[str, str, tuple[questions.Answer]]:
  """A text of three to six facts, and a question about one of them."""
  count = rng.integers(3, 7)
  facts = rng.choice(len(_THINGS) * len(_KINDS), count, replace=False)
  asked = rng.integers(count)
  context = ''
  for i, fact in enumerate(facts):
    thing, kind = divmod(int(fact), len(_KINDS))
    words = rng.choice(_VALUES, rng.integers(1, 3), replace=False)
    begin = f'{context and " "}The {_KINDS[kind]} of the {_THINGS[thing]} is '
    if i == asked:
      answer = questions.Answer(' '.join(words), len(context + begin))
      question = f'What is the {_KINDS[kind]} of the {_THINGS[thing]}?'
    context += f'{begin}{" ".join(words)}.'
  return context, question, (answer,)
