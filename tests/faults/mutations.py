"""Ways to break the code, each of which a kind of fault must notice.

A mutation is applied in the process of a run, see `forks.command_line`.
"""

import jax

from tt_compress.data import text_files
from tt_compress.training import metrics, states
from tt_compress.training.checkpoints import manifests


def forget_optimizer():
  """A resumed run begins with the moments at zero."""
  restore = states.restore

  def forgetful(*given):
    state = restore(*given)
    zeros = jax.tree.map(lambda a: a * 0, state['opt_state'])
    return {**state, 'opt_state': zeros}

  states.restore = forgetful


def repeat_a_step():
  """A resumed run repeats its last step."""
  restore = states.restore

  def late(*given):
    state = restore(*given)
    return {**state, 'step': state['step'] - 1}

  states.restore = late


def trust_files():
  """Checkpoints are used unverified."""
  manifests.problem = lambda folder: None


def keep_lines():
  """Metrics of repeated steps stay."""
  metrics._keep = lambda path, last: None


def bare_errors():
  """Lines are decoded without a word about their file."""
  text_files._decode = lambda line, path, number: line.decode()


# Name, and the kinds of fault in `__main__` that must notice it.
MUTATIONS = {
  'forget_optimizer': (
    forget_optimizer,
    ('kill', 'stop', 'kill_one', 'read_only'),
  ),
  'repeat_a_step': (repeat_a_step, ('kill', 'stop')),
  'trust_files': (trust_files, ('damage',)),
  'keep_lines': (keep_lines, ('kill',)),
  'bare_errors': (bare_errors, ('fuzz',)),
}
