"""Which rule is for which matrix of a model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from tt_compress import rules
from tt_compress.nn import sites

Choices = dict[sites.Site, Mapping[str, Any]]


def choices(
  found: sites.Found, rule_list: Sequence[tuple[str, Mapping[str, Any]]]
) -> Choices:
  """{site: the options of the rule that matches first}.

  Rules with `row_axes` are for variables, all others for the other sites.

  Raises:
    ValueError: a rule without effect, with what stands in its way.
  """
  rule_list = list(rules.pairs(rule_list))
  _check(found, rule_list)
  is_for_variables = lambda options: 'row_axes' in options
  chosen = {}
  for wanted, matrices in ((False, found.sites), (True, found.variables)):
    some = [rule for rule in rule_list if is_for_variables(rule[1]) == wanted]
    chosen |= _assign(matrices, some)
  return chosen


def out_of_reach(found: sites.Found) -> dict[str, str]:
  """{path: why rules without `row_axes` do not reach this weight}."""
  reasons = dict(found.unreached)
  for site in found.variables:
    shape = site.weight.get_value().shape
    reasons[site.path] = (
      f'{shape} of {site.kind}; a rule reaches it that says which of these '
      'axes are its rows, such as row_axes=(0,)'
    )
    if len(shape) > 2:
      reasons[site.path] += ', after stack_axes=1 of layers or experts, if any'
  return reasons


def check_untied(found: sites.Found, chosen: Choices) -> None:
  """Raises ValueError for a swap that would untie a part of a matrix."""
  holders = {}
  for site in found.sites + found.variables:
    nodes = [site.weight]
    if not isinstance(site.weight, nnx.Variable):
      nodes = [node for _, node in nnx.iter_graph(site.weight, graph=True)]
    for node in nodes:
      if not isinstance(node, nnx.Variable):
        continue
      other = holders.setdefault(id(node), site)
      if other is not site and (site in chosen or other in chosen):
        raise ValueError(
          f'{other.path} and {site.path} share a variable, which a swap would '
          'untie; share the module instead'
        )


def _assign(
  matrices: Sequence[sites.Site],
  rule_list: Sequence[tuple[str, Mapping[str, Any]]],
) -> Choices:
  names = [name for site in matrices for name in site.paths]
  by_name = rules.assign(rule_list, names)
  chosen = {}
  for site in matrices:
    found = [by_name[name] for name in site.paths if name in by_name]
    if any(choice != found[0] for choice in found):
      raise ValueError(
        f'different rules match the paths of one shared matrix: {site.path}; '
        'write one pattern that matches them all first'
      )
    if found:
      chosen[site] = found[0]
  return chosen


def _check(
  found: sites.Found, rule_list: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
  """Refuses a rule that matches only what it cannot reach."""
  reasons = out_of_reach(found)
  if rule_list and not found.sites and not found.variables:
    listed = '; '.join(f'{path}: {why}' for path, why in reasons.items())
    raise ValueError(
      'the model has no matrix that a rule reaches: '
      f'{listed or "no nnx.Param of it has two axes"}'
    )
  for pattern, options in rule_list:
    of_variables = 'row_axes' in options
    matrices = found.variables if of_variables else found.sites
    names = [name for site in matrices for name in site.paths]
    if any(map(_matcher(pattern), names)):
      continue
    others = found.sites if of_variables else found.variables
    blocked = {name: reason for name, reason in reasons.items()}
    if of_variables:
      known = 'its layer says which axes are its rows; leave row_axes out'
      blocked = found.unreached | {site.path: known for site in others}
    _refuse(pattern, blocked)


def _refuse(pattern: str, blocked: Mapping[str, str]) -> None:
  """Raises ValueError if a pattern matches only what is out of reach."""
  matches = _matcher(pattern)
  hit = {
    path: reason
    for path, reason in blocked.items()
    if any(
      matches(name) or matches(name.rpartition('/')[0])
      for name in path.split(' = ')
    )
  }
  if hit:
    listed = '; '.join(f'{path}: {why}' for path, why in hit.items())
    raise ValueError(
      f'rule {pattern!r} matches only what it cannot reach: {listed}'
    )


def _matcher(pattern: str):
  try:
    return re.compile(pattern).fullmatch
  except re.error:
    return lambda name: None  # `rules.assign` says what is wrong.
