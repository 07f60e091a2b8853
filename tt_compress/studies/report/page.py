"""A study's result as one HTML page that needs nothing else."""

import html as markup

from tt_compress.studies.report import about, cells, plots, style


def html(result: dict) -> str:
  """The tables and plots of a study on one page.

  Args:
    result: of a study, as in `results/`.

  Returns:
    HTML with its style and plots inside: no scripts, nothing to load. It
    depends on nothing but the result.

  Raises:
    ImportError: matplotlib is missing; the message says what to install.
  """
  tables, notes = cells.tables(result)
  title = _escape(result['title'])
  body = [f'<h1>{title}</h1>']
  if warning := about.stand_in(result):
    body.append(f'<p class="warning" role="alert">{_escape(warning)}</p>')
  texts = (about.data(result), *result['text'])
  body += [f'<p>{_escape(text)}</p>' for text in texts]
  body.append(f'<p class="summary">{_escape(about.summary(result))}</p>')
  body.append(_table(tables[0]))
  body.append(_notes(notes))
  body += [_figure(*drawing) for drawing in plots.drawings(result)]
  body += [_table(table) for table in tables[1:]]
  body.append(_reproduction(result))
  return _PAGE.format(
    title=title, style=style.CSS, body='\n'.join(filter(None, body))
  )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _escape(text):
  return markup.escape(text)


def _table(table):
  right = ['number' if right else 'text' for right in table.right]
  pairs = zip(right, table.header, strict=True)
  header = ''.join(
    f'<th scope="col" class="{kind}">{_escape(name)}</th>'
    for kind, name in pairs
  )
  rows = '\n'.join(f'<tr>{_row(row, right)}</tr>' for row in table.rows)
  return (
    f'<h2>{_escape(table.title)}</h2>\n<div class="box" tabindex="0"><table>\n'
    f'<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
    '</table></div>'
  )


def _row(row, kinds):
  """The first cell names the row."""
  pairs = zip(row[1:], kinds[1:], strict=True)
  return f'<th scope="row">{_inside(row[0])}</th>' + ''.join(
    f'<td class="{kind} {cell.state}">{_inside(cell)}</td>'
    for cell, kind in pairs
  )


def _inside(cell):
  text = f'<span>{_escape(cell.text)}</span>' if cell.text else ''
  if cell.struck:
    text = f'<s>{_escape(cell.struck)}</s> {text}'
  if cell.detail:
    text += f' <small>({_escape(cell.detail)})</small>'
  if cell.note:
    text += f'<sup><a href="#note-{cell.note}">{cell.note}</a></sup>'
  return text


def _notes(notes):
  items = '\n'.join(
    f'<li id="note-{i}">{_escape(text)}</li>' for i, text in enumerate(notes, 1)
  )
  listed = f'\n<ol class="notes">\n{items}\n</ol>' if notes else ''
  return f'<p class="legend">{_escape(about.LEGEND)}</p>{listed}'


def _figure(caption, svg):
  return (
    f'<figure>\n{svg}\n<figcaption>{_escape(caption)}</figcaption>\n</figure>'
  )


def _reproduction(result):
  facts = '\n'.join(
    f'<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>'
    for name, value in about.facts(result)
  )
  return (
    '<h2>How to reproduce</h2>\n'
    f'<pre class="box"><code>{_escape(result["command"])}</code></pre>\n'
    f'<dl>\n{facts}\n</dl>'
  )
