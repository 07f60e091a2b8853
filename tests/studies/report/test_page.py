"""The page of a study: well-formed, escaped, and in need of nothing else."""

import re
from html import parser

import pytest

from tests.studies import results
from tt_compress.studies.report import cells, page

VOID = {'meta', 'link', 'img', 'br', 'hr', 'input'}


class Reader(parser.HTMLParser):
  """Elements with attributes, text, tables of text; fails on bad nesting."""

  def __init__(self, text):
    super().__init__()
    self.stack, self.elements, self.text = [], [], ''
    self.tables = []
    self.feed(text)
    self.close()
    assert not self.stack, self.stack

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    if tag not in VOID:
      self.stack.append(tag)
    if tag == 'table':
      self.tables.append([])
    elif tag == 'tr':
      self.tables[-1].append([])
    elif tag in ('th', 'td'):
      self.tables[-1][-1].append('')

  def handle_startendtag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self.stack.pop() == tag

  def handle_data(self, data):
    if 'style' in self.stack:
      return
    self.text += data
    if {'th', 'td'} & set(self.stack):
      self.tables[-1][-1][-1] += data


@pytest.fixture(scope='module')
def text():
  return page.html(results.made_up())


def test_nothing_comes_from_elsewhere(text):
  found = Reader(text)
  tags = {tag for tag, _ in found.elements}
  assert not tags & {'script', 'link', 'img', 'iframe', 'object'}
  ids = {a['id'] for _, a in found.elements if 'id' in a}
  for _, attributes in found.elements:
    assert not {'src', 'srcset', 'data'} & set(attributes)
    for name in ('href', 'xlink:href'):
      target = attributes.get(name, '#')
      assert target == '#' or (target[0] == '#' and target[1:] in ids)
  assert '@import' not in text
  assert set(re.findall(r'url\((.)', text)) <= {'#'}
  # Names of XML's vocabularies are all that looks like an address.
  addresses = set(re.findall(r'https?://[^"\s<]+', text))
  assert addresses <= {
    'http://www.w3.org/2000/svg',
    'http://www.w3.org/1999/xlink',
  }


def test_tables_have_the_cells_of_the_tables(text):
  tables, _ = cells.tables(results.made_up())
  for found, table in zip(Reader(text).tables, tables, strict=True):
    assert found[0] == list(table.header)
    for shown, row in zip(found[1:], table.rows, strict=True):
      for there, cell in zip(shown, row, strict=True):
        wanted = (cell.struck, cell.text, cell.detail)
        assert all(part in there for part in wanted)
        assert bool(there) == any(wanted)


def test_what_a_reader_needs(text):
  found = Reader(text)
  for part in (
    'A table of "Nothing & Nobody"',
    'Trained on 55,000 images, chosen by the scores on made/held-out, '
    'tested on made/test.',
    'Chosen on *validation* data <only>.',
    '1 of 2 goals met.',
    '0.9784 @ 72.02 does not hold: 72.02 counts no train.',
    'python -m tt_compress.main --mode=study --config=a.py',
    'abc1234',
    '2 x Made-up CPU',
    'not run yet',
  ):
    assert part in found.text, part
  classes = [a.get('class', '').split() for _, a in found.elements]
  assert sum('met' in names for names in classes) == 1
  assert sum('missed' in names for names in classes) == 1
  assert [tag for tag, _ in found.elements].count('svg') == 3
  assert 'STAND-IN' not in found.text


def test_text_is_escaped():
  evil = '<script>alert("1")</script>&amp;'
  result = results.made_up(
    title=evil,
    text=[evil],
    command=evil,
    git=evil,
    metric=evil,
    versions={evil: evil},
    hardware=evil,
    data=dict(validation=evil, test=evil, num_images=1, is_stand_in=True),
  )
  row = result['rows'][2]
  row |= dict(id=evil, method=evil, note=evil, counted=evil)
  row['corrected']['why'] = evil
  found = Reader(page.html(result))
  assert 'script' not in {tag for tag, _ in found.elements}
  # Title, h1, text, data, warning, command, facts, cells, notes, plots.
  assert found.text.count(evil) > 20


def test_stand_in_data_is_said_loudly():
  found = Reader(page.html(results.on_stand_in()))
  assert 'STAND-IN DATA: these scores are of made/test' in found.text
  assert ('p', {'class': 'warning', 'role': 'alert'}) in found.elements


def test_it_depends_on_the_result_alone(text):
  assert page.html(results.made_up()) == text


def test_a_study_before_its_first_run():
  result = results.made_up(
    rows=[results.row('a'), results.row('b', published=dict(score=1, ratio=2))]
  )
  found = Reader(page.html(result))
  assert found.text.count('not run yet') == 2
