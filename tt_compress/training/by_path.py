"""Settings of the optimizer for some parameters, by patterns of their paths.

A rule is a pair of a pattern, matched with `re.fullmatch` on a path such as
'encoder/layers/0/ffn/up/bias', and a dict of `learning_rate`, relative to that
of other parameters, or `weight_decay`, or both. The first match wins. Patterns
such as '.*/factors/.*' also match the matrices of the dense twin; those of
single cores do not, and a rule without a match is refused.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from tt_compress import rules
from tt_compress.nn import stacked
from tt_compress.training import schedules

Rules = Sequence[tuple[str, Mapping[str, float]]]


def checked(rule_list: Rules) -> Rules:
  """Returns the rules if each sets something that rules can set, to a number.

  Raises:
    ValueError: naming the rule and its settings.
  """
  known = {'learning_rate', 'weight_decay'}
  for pattern, settings in rules.pairs(rule_list):
    is_dict = isinstance(settings, Mapping)
    if not (is_dict and settings and settings.keys() <= known):
      raise ValueError(
        f'optimizer.rules: {pattern!r} has {settings!r}, which must be a dict '
        f'of {" or ".join(sorted(known))}'
      )
    for name, value in settings.items():
      schedules.check_number(
        f'rules: {name} of {pattern!r}', value, *schedules.NOT_NEGATIVE
      )
  return rule_list


@dataclasses.dataclass(frozen=True)
class Decay:
  """The weight decay of each parameter.

  Attributes:
    general: of arrays with two or more axes, and of `factors`, that no rule
      names. Others, such as biases and scales, do not decay.
    rule_list: pairs of a pattern and settings, see above.
    factors: paths of the arrays that decay in the direction of the argument
      `decaying` of an update, see `product_decay.py`. Others, and all arrays if
      this is None, decay towards zero.
  """

  general: float
  rule_list: Rules = ()
  factors: frozenset[str] | None = None

  @property
  def values(self) -> list[float]:
    """The decays above zero, the general one first."""
    found = [rule.get('weight_decay', 0.0) for _, rule in self.rule_list]
    return list(dict.fromkeys(filter(None, [self.general, *found])))

  def of(self, params: Any) -> Any:
    """The decay of each array of a tree, as a tree of numbers."""

    def find(path, array):
      rule = rules.first(self.rule_list, path) or {}
      decays = array.ndim > 1 or path in (self.factors or ())
      return rule.get('weight_decay', self.general if decays else 0.0)

    return map_paths(find, params)

  def add(self) -> list[optax.GradientTransformation]:
    """Transformations that add decay * w, one for each value."""

    def add(value):
      decays = lambda params: jax.tree.map(
        lambda decay: decay == value, self.of(params)
      )
      return self.directed(optax.add_decayed_weights(value, mask=decays))

    return [add(value) for value in self.values]

  def directed(
    self, decay: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """A transformation that uses params for the decay alone, with `factors`."""
    if self.factors is None:
      return decay

    def update(updates, state, params, *, decaying):
      return decay.update(updates, state, decaying)

    return optax.GradientTransformationExtraArgs(decay.init, update)


@dataclasses.dataclass(frozen=True)
class Rates:
  """The learning rate of each parameter, relative to the schedule.

  Attributes:
    rule_list: pairs of a pattern and settings, see above.
    of_factors: {path: rate}, multiplied with those of rules.
  """

  rule_list: Rules = ()
  of_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def values(self) -> set[float]:
    """The rates that rules and factors have."""
    found = {rule.get('learning_rate', 1.0) for _, rule in self.rule_list}
    return found | set(self.of_factors.values())

  def of(self, path: str) -> float:
    """The rate of the parameter at a path."""
    rule = rules.first(self.rule_list, path) or {}
    return rule.get('learning_rate', 1.0) * self.of_factors.get(path, 1.0)


def apply(
  optimizer: optax.GradientTransformation, rates: Rates
) -> optax.GradientTransformation:
  """Multiplies updates by the relative learning rates.

  Parameters with the rate 0 have no moments and no part in a norm that the
  optimizer takes. `init` refuses rules that match no parameter.
  """
  if rates.values - {0.0, 1.0}:
    multiply = lambda updates, params=None: map_paths(
      lambda path, update: update * rates.of(path), updates
    )
    optimizer = optax.chain(optimizer, optax.stateless(multiply))
  if 0.0 in rates.values:
    labels = lambda params: map_paths(
      lambda path, _: 'trained' if rates.of(path) else 'frozen', params
    )
    optimizer = optax.partition(
      {'trained': optimizer, 'frozen': optax.set_to_zero()},
      labels,
      mask_compatible_extra_args=True,
    )

  def init(params):
    paths = itertools.chain(*map(stacked.paths, stacked.names(params)))
    rules.assign(rates.rule_list, paths)  # Refuses rules without effect.
    return optimizer.init(params)

  return optimizer._replace(init=init)


def map_paths(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
  """A tree of function(path, leaf, *leaves), with paths as 'layers/0/bias'.

  The path of an array that layers share is that of the first layer: settings of
  layers that differ keep a model from sharing them.
  """
  name = lambda path: stacked.paths(stacked.name(path))[0]
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: function(name(path), *leaves), tree, *others
  )
