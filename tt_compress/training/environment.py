"""The code, the packages and the devices that compute the results of a run."""

import importlib.metadata
import os
import platform
import subprocess

import jax


def processor() -> str:
  """The name of the CPU, or as much as the system reports."""
  try:
    with open('/proc/cpuinfo') as lines:
      names = [line.split(':')[1] for line in lines if 'model name' in line]
  except OSError:
    names = []
  return names[0].strip() if names else platform.processor()


def hardware() -> str:
  """The devices and the CPU of this machine."""
  [kind] = {device.device_kind for device in jax.devices()}
  cores = f'{os.cpu_count()} cores, {processor()}'
  if jax.default_backend() == 'cpu':
    return cores
  return f'{jax.device_count()} x {kind}; host: {cores}'


def versions() -> dict[str, str]:
  """Versions of the packages that a result depends on."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  return {name: importlib.metadata.version(name) for name in packages}


def git_hash(folder: str | None = None) -> str | None:
  """The commit of the code, with '+' if files have changed since.

  Files in results/ do not count: measurements write them. None outside of a
  repository.

  Args:
    folder: in the repository; by default that of this file.
  """
  folder = folder or os.path.dirname(os.path.abspath(__file__))

  def git(*arguments):
    return subprocess.run(
      ['git', '-C', folder, *arguments],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()

  try:
    code = (':(top)', ':(top,exclude)results')
    changed = git('status', '--porcelain', '--untracked-files=no', '--', *code)
    return git('rev-parse', 'HEAD') + ('+' if changed else '')
  except (OSError, subprocess.CalledProcessError):
    return None
