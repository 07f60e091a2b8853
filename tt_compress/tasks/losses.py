"""Checks of settings that the losses of several tasks share."""


def check_smoothing(smoothing: float) -> None:
  """Refuses a label smoothing outside of [0, 1)."""
  if not 0 <= smoothing < 1:
    raise ValueError(f'label_smoothing={smoothing} must be in [0, 1)')
