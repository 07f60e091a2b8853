"""What to know of a study beside its tables."""

import datetime

from tt_compress.studies.report import cells

LEGEND = (
  'Scores are means ± sample standard deviations over seeds. Ratios are those '
  'of the whole network: the numbers (or bits) that the dense one stores over '
  'those stored. Goals are a score and a ratio, both to be reached at least. '
  'Latency is relative to the dense network, the first row: below 1 is '
  'faster. 1 kB is 1000 bytes.'
)


def summary(result: dict) -> str:
  """How much was run and reached, in a line."""
  rows = result['rows']
  complete = sum(len(row['runs']) >= len(result['seeds']) for row in rows)
  text = f'{complete} of {len(rows)} rows run with every seed.'
  goals = [cells.goal(row, result).state for row in rows if row['goal']]
  if goals and not result['data']['is_stand_in']:
    text += f' {goals.count("met")} of {len(goals)} goals met.'
  return text


def stand_in(result: dict) -> str:
  """The warning of a study on other data than it is about, or ''."""
  if not result['data']['is_stand_in']:
    return ''
  return (
    f'STAND-IN DATA: these scores are of {result["data"]["test"]}, not of '
    'the published data. They compare with one another and with no published '
    'score.'
  )


def data(result: dict) -> str:
  """What was trained and tested on, in a line."""
  found = result['data']
  return (
    f'Trained on {found["num_images"]:,} images, chosen by the scores on '
    f'{found["validation"]}, tested on {found["test"]}.'
  )


def facts(result: dict) -> tuple[tuple[str, str], ...]:
  """(name, value) of where the numbers come from."""
  versions = ', '.join(f'{k} {v}' for k, v in result['versions'].items())
  return (
    ('seeds', ', '.join(map(str, result['seeds']))),
    ('commit', result['git']),
    ('versions', versions),
    ('hardware', result['hardware']),
    ('time', str(datetime.timedelta(seconds=round(result['seconds'])))),
  )
