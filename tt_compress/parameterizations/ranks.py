"""The largest rank within a number of parameters."""

from tt_compress.parameterizations import checks


def largest(cls: type, max_params: int, **options):
  """The spec of the largest rank that has at most max_params parameters.

  Args:
    cls: a parameterization with a `rank_option`.
    max_params: most parameters permitted.
    **options: all options but the rank, rows and cols included.

  Raises:
    ValueError: there is no rank to solve for, or rank 1 is too large.
  """
  if cls.rank_option is None:
    raise ValueError(
      f'{cls.__name__} has no rank, so its size cannot be chosen; '
      'leave out compression_ratio and max_params'
    )
  at = lambda rank: cls(**options, **{cls.rank_option: rank})
  if at(1).num_params > max_params:
    raise ValueError(
      f'{cls.__name__} of {options["rows"]} x {options["cols"]} has '
      f'{at(1).num_params} parameters at {cls.rank_option}=1, more than '
      f'the {max_params} allowed; use a smaller compression_ratio, a larger '
      'max_params or share of the dense parameters, or other options'
    )

  def fits(rank):
    try:
      return at(rank).num_params <= max_params
    except checks.RankError:
      return False

  low, high = 1, 2
  while fits(high):
    low, high = high, 2 * high
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if fits(middle) else (low, middle)
  return at(low)
