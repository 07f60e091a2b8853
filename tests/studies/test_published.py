"""The published figures of every table, as they were printed."""

import json
import pathlib

import pytest

from tt_compress import configuration

FILE = pathlib.Path(__file__).parents[1] / 'golden/published.json'
# {study: {row: its figures by metric, and parts of its note}}.
PUBLISHED = json.loads(FILE.read_text())


@pytest.mark.parametrize('study', PUBLISHED)
def test_rows_have_the_printed_figures(study):
  config = configuration.load(f'configs/studies/{study}')
  rows = {row.id: row for row in config.study.rows if row.published}
  assert {name: row.published for name, row in rows.items()} == {
    name: row['figures'] for name, row in PUBLISHED[study].items()
  }
  for name, row in PUBLISHED[study].items():
    for figure in row.get('note', ()):
      assert figure in rows[name].note
