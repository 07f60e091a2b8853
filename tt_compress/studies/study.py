"""A paper's table as a part of a configuration."""

from collections.abc import Mapping, Sequence

import jax
import ml_collections

from tt_compress import configuration
from tt_compress.studies import results, rows

COSTS = (
  rows.Metric(
    name='numbers stored',
    source='stored/numbers',
    better='lower',
    format=',.0f',
  ),
  rows.Metric(
    name='size',
    source='stored/bits',
    better='lower',
    format=',.2f',
    unit='kB',
    scale=1 / 8000,
  ),
  rows.Metric(
    name='steps', source='config/num_steps', better='lower', format=',.0f'
  ),
  rows.Metric(
    name='training',
    source='seconds',
    better='lower',
    format=',.1f',
    unit='s',
  ),
)


def attach(
  config: ml_collections.ConfigDict,
  arguments: Mapping,
  *,
  title: str,
  text: Sequence[str],
  metrics: Sequence[rows.Metric],
  table: Sequence[rows.Row],
  figures: Sequence[results.Figure] = (),
  latencies: bool = True,
) -> ml_collections.ConfigDict:
  """Makes a study of a configuration.

  Args:
    config: that rows without a file of their own differ from. Flags that change
      it change the runs of all rows.
    arguments: as returned by `configuration.parse`, with `seeds`.
    title: of the table.
    text: paragraphs for its reader.
    metrics: columns of the table. The first is the main one: figures show its
      validation scores during training.
    table: rows; the first that runs is the reference of latencies.
    figures: plots of one metric against another.
    latencies: whether to measure how long the loss of each trained model takes,
      relative to the first row.

  Returns:
    The configuration with the settings `study`.
  """
  if arguments['dense']:
    raise ValueError(
      'a study has no dense twin; its rows have one. Leave the argument dense '
      'out'
    )
  written = configuration.to_json(config)
  shown = {metric.name for metric in metrics}
  with config.unlocked():
    config.study = dict(
      title=title,
      text=tuple(text),
      metrics=tuple(metrics),
      costs=tuple(metric for metric in COSTS if metric.name not in shown),
      rows=tuple(table),
      figures=tuple(figures),
      latencies=latencies,
      # Seeds are first_seed to num_seeds - 1, so that hosts can share them.
      first_seed=0,
      num_seeds=1 if arguments['tiny'] else arguments['seeds'],
      # Ids of rows, with commas between them; rows that they need run, too.
      # All rows if empty.
      only='',
      # Whether to train; if not, the runs that have finished are reported.
      train=True,
      # Folder of the tables and figures.
      output='results',
      is_tiny=arguments['tiny'],
      # The configuration before flags change it, as JSON.
      written=written,
    )
  return config.lock()


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses configurations and processes that cannot run a study.

  Raises:
    ValueError: a configuration without a study, or several processes.
  """
  if 'study' not in config:
    raise ValueError(
      'this configuration is a single run; --mode=study wants one of '
      'configs/studies/'
    )
  if jax.process_count() > 1:
    raise ValueError(
      f'--mode=study runs in one process, not in {jax.process_count()}; start '
      'it alone'
    )
