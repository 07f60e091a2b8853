"""Ticks of logarithmic axes."""


def spell_out(axis, digits=(1, 2, 5)):
  """Puts ticks at 1, 2, 5, 10, ..., written in full.

  Args:
    axis: to put them on.
    digits: of numbers that get one, those before the zeros.
  """
  from matplotlib import ticker

  axis.set_major_locator(ticker.LogLocator(subs=digits))
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,g}'))
  axis.set_minor_formatter(ticker.NullFormatter())
