"""What the results of a run say beside its scores."""

from collections.abc import Mapping

import jax

from tt_compress.training import build, workdir


def make(config, sizes: Mapping) -> dict:
  """Describes the run, the code and the devices as they are now.

  Args:
    config: of the run.
    sizes: of its model, see `sizes.make`.
  """
  names = ('num_params', 'dense_num_params', 'compression_ratio')
  return {
    'config': config.to_dict(),
    **{name: sizes[name] for name in (*names, 'matrices', 'reference')},
    'versions': build.versions(),
    'git': workdir.git_hash(),
    'backend': jax.default_backend(),
    'num_devices': jax.device_count(),
    'num_processes': jax.process_count(),
  }
