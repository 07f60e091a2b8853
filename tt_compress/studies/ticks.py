"""Ticks of logarithmic axes."""


def spell_out(axis):
  """Puts ticks at 1, 2, 5, 10, ..., written in full."""
  from matplotlib import ticker

  axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,g}'))
  axis.set_minor_formatter(ticker.NullFormatter())
