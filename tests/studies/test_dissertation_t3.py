"""Table 3 of the dissertation: its lost rows, ours, and the figures beside."""

import json

import pytest

from benchmarks import kets, sample_answers
from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.studies.report import plots
from tt_compress.training import build, run

FILE = 'configs/studies/dissertation_t3.py'


def test_lost_rows_have_the_counts_of_their_notes():
  rows = configuration.load(FILE).study.rows
  lost = [row for row in rows if row.published_only]
  assert [row.published['ratio of the embedding'] for row in lost] == [
    1,
    pytest.approx(35_596_500 / 24_840, abs=0.5),
    pytest.approx(35_596_500 / 380, abs=0.5),
  ]
  assert ['F1' in row.lost for row in lost] == [True, True, False]
  for row, params in zip(lost, (35_596_500, 24_840, 380), strict=True):
    config = configuration.load(row.config)
    blueprint = build.blueprint(config)
    assert blueprint.matrices['embed'].num_params == params
    assert config.num_steps == 40 * 2738 and config.optimizer.name == 'adamax'
    assert config.optimizer.clip_norm == 10 and config.model.dropout == 0.4


def test_every_row_can_run(tmp_path):
  study = runs.Study(configuration.load(f'{FILE}:tiny'), str(tmp_path))
  full = configuration.load(FILE)
  found = [configurations.of_run(full, row, 0) for row in study._running]
  embeddings = [build.blueprint(each).matrices['embed'] for each in found]
  assert [spec.num_params for spec in embeddings] == [2_560_000, 6_816, 192]
  assert {each.num_steps for each in found} == {12 * 137}


def test_the_figure_of_both_architectures_has_the_published_counts(tmp_path):
  word, table = kets.panels()
  assert (word.num_factors, word.spec.num_params) == (20, 80)
  assert (table.num_factors, table.spec.num_params) == (20, 120)
  kets.write(str(tmp_path / 'a.png'))
  assert (tmp_path / 'a.png').stat().st_size
  with plots.figure(9, 5) as drawn:
    axes = drawn.subplots(1, 2)
    for each, panel in zip(axes, (word, table), strict=True):
      kets.draw(each, panel)
    assert [len(each.patches) for each in axes] == [80, 120]


def test_sample_answers_are_a_page(tmp_path, monkeypatch):
  config = configuration.load('configs/squad_word2ketxs.py:tiny')
  config.num_steps = 1
  config.data.options = dict(num_train=32, num_validation=4, num_test=5)
  config.data.bucket_lengths = (80,)
  made = run.Run(config, str(tmp_path / 'run'))
  made.train()
  page = sample_answers.page(made, 2, 'some texts')
  assert page.startswith('# Answers of a reader whose embedding has 48 numbers')
  assert 'On 5 questions (generated questions' in page
  assert f'its F1 is {made.results()["test"]["f1"]:.2f}' in page
  assert (
    page.count('\n> The ') == 2 and page.count('| question | answer |') == 2
  )
  predicted = made.predict(
    [
      json.dumps({'context': context, 'question': question})
      for context, question in zip(
        *(
          getattr(made.task.load('test'), n) for n in ('contexts', 'questions')
        ),
        strict=True,
      )
    ]
  )
  shown = [best[0] for best in predicted if f'| {best[0].text} | ' in page]
  assert len(shown) >= 2
