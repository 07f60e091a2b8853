"""Answers of a trained reader to questions of its test, as a page.

  python -m benchmarks.sample_answers \
    --reader=runs/dissertation_t3/word2ketxs-4-1/0

Figure 5 of "Improving Space Efficiency of Deep Neural Networks" shows those of
a reader whose embedding has 380 numbers.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from jaxtyping import Int

from benchmarks import records
from tt_compress.data import questions
from tt_compress.nn import modules
from tt_compress.studies.report import markdown
from tt_compress.tasks import base
from tt_compress.tasks.scores import overlap
from tt_compress.training import run, workdir

_READER = flags.DEFINE_string(
  'reader',
  'runs/dissertation_t3/word2ketxs-4-1/0',
  'Folder of a trained run of task question_answering.',
)
_ANSWERS = flags.DEFINE_string(
  'answers', 'results/dissertation_f5.md', 'Markdown file to write.'
)
_NUM_CONTEXTS = flags.DEFINE_integer(
  'num_contexts', 3, 'Texts to show, with all of their questions.'
)
_ORIGIN = flags.DEFINE_string(
  'answers_from',
  'SQuAD 1.1 (Rajpurkar et al., 2016; CC BY-SA 4.0)',
  'Whose texts these are, and their license.',
)


def page(made: run.Run, num_contexts: int, origin: str) -> str:
  """The page of a run.

  Args:
    made: of task question_answering.
    num_contexts: texts to show.
    origin: of the texts.
  """
  found = made.task.load('test')
  variables = made.variables(made.chosen)
  scores = made.task.evaluate(variables, 'test')
  answers, _ = made.task.answers(variables, 'test')
  spec = made.blueprint.matrices['embed']
  shapes = ', '.join(
    ' x '.join(map(str, array.shape))
    for path, array in made.blueprint.factors.items()
    if path.startswith('embed/')
  )
  parts = [
    f'# Answers of a reader whose embedding has {spec.num_params:,} numbers',
    f'The embedding of {spec.rows:,} words x {spec.cols} is '
    f'{markdown.escape(str(spec))}, with factors of {shapes}; the reader has '
    f'{modules.num_params(made.blueprint.params):,} parameters. On '
    f'{scores["num_questions"]:,} questions ({scores["data"]}) its F1 is '
    f'{scores["f1"]:.2f}, and {scores["exact_match"]:.2f} % of its answers are '
    f'exact. Texts are drawn at random from {origin}. Commit '
    f'{records.commit()}; `python -m benchmarks.sample_answers '
    f'--reader={_shown(made.workdir)}`.',
  ]
  for members in _drawn(found, num_contexts):
    parts.append(f'> {markdown.escape(found.contexts[members[0]])}')
    parts.append(_table(found, answers, members))
  return '\n\n'.join(parts) + '\n'


def _shown(folder: str) -> str:
  """The folder of a run relative to this one, or its name alone."""
  path = pathlib.Path(folder)
  here = pathlib.Path.cwd()
  return str(path.relative_to(here)) if here in path.parents else path.name


def _drawn(
  found: questions.Questions, number: int
) -> list[Int[np.ndarray, ' members']]:
  """The questions of some contexts, the same in every call."""
  contexts = list(dict.fromkeys(found.contexts))
  # Raw bits, which NumPy keeps over its versions.
  bits = np.random.Philox(np.random.SeedSequence(0)).random_raw(len(contexts))
  chosen = [contexts[i] for i in np.argsort(bits, kind='stable')[:number]]
  each = np.array(found.contexts, object)
  return [np.flatnonzero(each == context) for context in chosen]


def _table(
  found: questions.Questions,
  answers: Sequence[base.Answer],
  members: Int[np.ndarray, ' members'],
) -> str:
  lines = []
  for i in members:
    right = [answer.text for answer in found.answers[i]]
    f1 = 100 * overlap.best(overlap.f1, answers[i].text, right)
    lines.append(
      (
        markdown.escape(found.questions[i]),
        markdown.escape(answers[i].text),
        f'{answers[i].score:.2f}',
        markdown.escape('; '.join(dict.fromkeys(right))),
        f'{f1:.0f}',
      )
    )
  columns = 'question', 'answer', 'probability', 'right', 'F1'
  return records.table(columns, lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  folder = _READER.value
  made = run.Run(workdir.load_config(folder), folder)
  path = pathlib.Path(_ANSWERS.value)
  path.write_text(
    page(made, _NUM_CONTEXTS.value, _ORIGIN.value), encoding='utf-8'
  )
  print('written:', path)


if __name__ == '__main__':
  app.run(main)
