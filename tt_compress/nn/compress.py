"""Replaces matrices of any Flax model, by rules over their paths."""

import dataclasses
import functools
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from tt_compress import parameterizations, rules
from tt_compress.algebra import networks, weighting
from tt_compress.nn import bottleneck, embed, linear, matrix, stack
from tt_compress.parameterizations import base

Rules = Sequence[tuple[str, Mapping[str, Any]]]


class Calibrated(Protocol):
  """What matrices are multiplied with, such as `calibration.Calibration`."""

  def weightings(
    self, model: nnx.Module, rule_list: Rules
  ) -> Mapping[str, weighting.Weighting]:
    """The weights of the errors of all matrices that rules match, by path."""


Fit = bool | Literal['weights'] | Calibrated


@dataclasses.dataclass(frozen=True)
class Swap:
  """One matrix that `compress` replaced.

  Attributes:
    path: of its module; a shared module has several, joined by ' = '.
    spec: its new parameterization.
    error: ||W - full(fit(W))|| / ||W|| if the factors were fitted, else None.
    product_error: the same of the products with W in a calibration; None
      without one, or if it does not use the matrix.
  """

  path: str
  spec: base.Parameterization
  error: float | Float[Array, ''] | None = None
  product_error: float | Float[Array, ''] | None = None

  def __str__(self):
    spec = self.spec
    frozen = f' and {spec.num_frozen:,} frozen' if spec.num_frozen else ''
    error = '' if self.error is None else f', error {float(self.error):.4f}'
    if self.product_error is not None:
      error += f', of products {float(self.product_error):.4f}'
    return (
      f'{self.path}: {spec.rows} x {spec.cols} in {spec.num_params:,} numbers'
      f'{frozen}, ratio {spec.compression_ratio:.2f}{error}'
    )


@dataclasses.dataclass(frozen=True)
class Report:
  """The result of `compress`.

  Attributes:
    swapped: matrices that were replaced.
    kept: paths of matrices that no rule matches.
    unreached: paths of weights that `compress` cannot replace.
  """

  swapped: tuple[Swap, ...]
  kept: tuple[str, ...]
  unreached: tuple[str, ...]

  def __str__(self):
    lines = [str(swap) for swap in self.swapped]
    lines += [f'{path}: kept' for path in self.kept]
    lines += [f'{path}: out of reach' for path in self.unreached]
    return '\n'.join(lines)


@dataclasses.dataclass(eq=False)
class _Site:
  """A module that holds one matrix, with its paths and its parents."""

  module: nnx.Module
  paths: list[str]
  parents: list[tuple[Any, Any]]

  @property
  def path(self) -> str:
    return ' = '.join(self.paths)

  def replace(self, module: nnx.Module) -> None:
    # Replacing it at one parent alone would untie the others.
    for parent, name in self.parents:
      if isinstance(parent, nnx.List | nnx.Dict | list | dict):
        parent[name] = module
      elif isinstance(parent, nnx.Module):
        setattr(parent, name, module)
      else:
        raise ValueError(
          f'cannot replace {self.path or "the model itself"}: '
          f'{type(parent).__name__} holds it, which cannot be changed; hold it '
          'in a module or an nnx.List'
        )


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
  if isinstance(node, nnx.List | list | tuple):
    yield from enumerate(node)
  elif isinstance(node, dict | nnx.Dict):
    yield from node.items()
  elif isinstance(node, nnx.Module):
    for name, child in vars(node).items():
      if not name.startswith('_pytree__'):
        yield name, child


def _is_matrix(node: Any) -> bool:
  # Not subclasses: they may compute something else, as nnx.LoRALinear does.
  return type(node) in (linear.Linear, embed.Embed, nnx.Linear, nnx.Embed)


def _walk(model: nnx.Module) -> tuple[dict[int, _Site], list[str]]:
  """Finds the sites of matrices, and the paths of other weights."""
  sites, unreached, ancestors = {}, [], set()

  def visit(node, path, parent, name):
    if _is_matrix(node):
      site = sites.setdefault(id(node), _Site(node, [], []))
      site.paths.append(path)
      site.parents.append((parent, name))
    elif isinstance(node, nnx.Param):
      if node.get_value().ndim >= 2:
        unreached.append(path)
    elif id(node) not in ancestors:  # A module may refer back to its parent.
      ancestors.add(id(node))
      for key, child in _children(node):
        visit(child, f'{path}/{key}' if path else str(key), node, key)
      ancestors.discard(id(node))

  visit(model, '', None, None)
  return sites, unreached


def _role(module: nnx.Module) -> networks.Role:
  if isinstance(module, matrix.Matrix):
    return module.role
  return 'rows' if _is_embed(module) else 'product'


def _current(module: nnx.Module) -> tuple[tuple[int, int], float, Any]:
  """(rows, cols), std and a function that returns the present matrix."""
  if isinstance(module, matrix.Matrix):
    return (module.spec.rows, module.spec.cols), module.std, module.full
  if isinstance(module, nnx.Linear):
    weight, axis = module.kernel, 0
  else:
    weight, axis = module.embedding, 1
  shape = weight.get_value().shape
  return shape, shape[axis] ** -0.5, weight.get_value


def _is_embed(module: nnx.Module) -> bool:
  return isinstance(module, embed.Embed | nnx.Embed)


def _replacement(
  module: nnx.Module,
  spec: base.Parameterization,
  std: float,
  keep_bias: bool,
  activation: str | None,
  rngs: nnx.Rngs,
) -> matrix.Matrix | bottleneck.Bottleneck:
  if activation is None:
    layer = embed.Embed if _is_embed(module) else linear.Linear
    layer = functools.partial(layer, spec.rows, spec.cols, spec=spec)
  else:
    layer = functools.partial(bottleneck.Bottleneck, spec, activation)
  make = functools.partial(
    layer,
    std=std,
    dtype=module.dtype,
    param_dtype=module.param_dtype,
    rngs=rngs,
  )
  if _is_embed(module):
    return make(role=_role(module))
  bias = module.bias if keep_bias else None
  # Layers of Flax have no side that a mesh shards.
  side = getattr(module, 'shard', None)
  new = make(use_bias=bias is not None, shard=side)
  if bias is not None:
    new.bias.set_value(bias.get_value())
  return new


def _relative_error(
  weight: Float[ArrayLike, 'rows cols'],
  approximation: Float[ArrayLike, 'rows cols'],
) -> Float[Array, '']:
  weight, approximation = (
    a.astype(jnp.float32) for a in (weight, approximation)
  )
  norm = jnp.linalg.norm(weight)
  return jnp.linalg.norm(weight - approximation) / jnp.where(norm > 0, norm, 1)


def _make(
  site: _Site,
  choice: Mapping,
  rngs: nnx.Rngs,
  fit: bool,
  weights: weighting.Weighting | None,
) -> tuple[matrix.Matrix | bottleneck.Bottleneck, Swap]:
  """The module that replaces that of a site, and its entry in the report."""
  (rows, cols), std, weight = _current(site.module)
  options = dict(choice)
  deviation = {
    name: value
    for name in ('std', 'std_scale')
    if (value := options.pop(name, None)) is not None
  }
  keep_bias = options.pop('bias', True)
  activation = options.pop('activation', None)
  if not isinstance(keep_bias, bool):
    raise ValueError(
      f'the rule for {site.path} has bias={keep_bias!r}; it is True or False'
    )
  if activation is not None:
    _check_activation(site, activation, fit)
  if 'name' not in options:
    raise ValueError(
      f'the rule for {site.path} has no name: {dict(choice)}; say which '
      f'parameterization, one of {sorted(parameterizations.REGISTRY)}'
    )
  try:
    spec = parameterizations.make(rows=rows, cols=cols, **options)
    if activation is not None:
      bottleneck.check(spec, activation)
  except (TypeError, ValueError) as error:
    raise ValueError(f'cannot compress {site.path}: {error}') from error
  std = _new_std(site, std, deviation)
  new = _replacement(site.module, spec, std, keep_bias, activation, rngs)
  if not fit:
    return new, Swap(site.path, spec)
  fitted = (  # in float32
    spec.fit_products(weight(), weights) if weights else spec.fit(weight())
  )
  new.update(
    jax.tree.map(lambda a, old: a.astype(old.dtype), fitted, new.values())
  )
  error = _relative_error(weight(), new.full())
  product_error = weights and weights.relative_error(weight(), new.full())
  return new, Swap(site.path, spec, error, product_error)


def _new_std(site: _Site, std: float, given: Mapping[str, float]) -> float:
  """The `std` that a rule gives, or that of the layer times a scale."""
  place = f'the rule for {site.path} has '
  place += ' and '.join(f'{name}={value!r}' for name, value in given.items())
  if len(given) > 1:
    raise ValueError(f'{place}; leave out one of the two')
  for value in given.values():
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float('inf'):
      raise ValueError(f'{place}; it is a number of at least 0')
  if 'std' in given:
    return given['std']
  return std * given.get('std_scale', 1.0)


def _check_activation(site: _Site, activation: Any, fit: bool) -> None:
  """Refuses an activation where no linear layer can have one."""
  place = f'the rule for {site.path} has activation={activation!r}'
  if _is_embed(site.module):
    raise ValueError(
      f'{place}, but {site.path} is an embedding; leave the activation out'
    )
  if fit:
    raise ValueError(
      f'{place}, and no such layer can fit a matrix; leave the activation '
      'out, or train from scratch'
    )


def _check_untied(sites: Sequence[_Site], choices: Sequence[Any]) -> None:
  """Raises ValueError for a swap that would untie a shared variable."""
  holders = {}
  for site, choice in zip(sites, choices, strict=True):
    for _, node in nnx.iter_graph(site.module, graph=True):
      if not isinstance(node, nnx.Variable):
        continue
      other, other_choice = holders.setdefault(id(node), (site, choice))
      if other is not site and (choice is not None or other_choice is not None):
        raise ValueError(
          f'{other.path} and {site.path} share a variable, which a swap would '
          'untie; share the module instead'
        )


def _choices(sites: Sequence[_Site], rule_list: Rules) -> list[Any]:
  """The options of the rule that matches each site; None if none does."""
  names = [name for site in sites for name in site.paths]
  by_name = rules.assign(rule_list, names)
  choices = []
  for site in sites:
    found = [by_name[name] for name in site.paths if name in by_name]
    if any(choice != found[0] for choice in found):
      raise ValueError(
        f'different rules match the paths of one shared matrix: {site.path}; '
        'write one pattern that matches them all first'
      )
    choices.append(found[0] if found else None)
  return choices


def compress(
  model: nnx.Module, rule_list: Rules, rngs: nnx.Rngs, *, fit: Fit = False
) -> Report:
  """Replaces the matrices of a model whose path matches a rule, in place.

  Replaces `Linear` and `Embed`, those of Flax included. A rule is a pair of a
  pattern, matched by `re.fullmatch` with a path such as
  'encoder/layers/0/ffn/up', and the options of `parameterizations.make`:
  `('.*/ffn/.*', dict(name='tensor_train', tt_rank=16))`. The first match wins.
  The option `std` overrides the standard deviation at initialization,
  `std_scale` multiplies that of the layer, and `bias=False` drops the bias.
  `activation='silu'` makes a `bottleneck.Bottleneck` of a linear layer and a
  pair of low rank. A shared module stays shared. New layers keep `dtype` and
  `param_dtype`; without a `dtype`, `Linear` computes in the dtype of its input.

  Under `nnx.eval_shape` or inside `jax.jit`, the replaced matrices are never
  allocated.

  Args:
    model: any Flax NNX model.
    rule_list: pairs of pattern and options.
    rngs: source of the keys for new factors.
    fit: whether new factors approximate the present matrices; otherwise they
      are random. True or 'weights' minimizes the error of the matrices, a
      `calibration.Calibration` that of their products in its batches.

  Returns:
    A report of the matrices that were replaced, kept and out of reach.

  Raises:
    ValueError: a rule matches nothing, or its options do not suit the matrix;
      or batches of a calibration do not run.
  """
  if isinstance(fit, str) and fit != 'weights':
    raise ValueError(
      f"fit={fit!r} must be True, False, 'weights' or a Calibration"
    )
  with stack.unrolled(model):
    return _compress(model, rule_list, rngs, fit)


def _compress(
  model: nnx.Module, rule_list: Rules, rngs: nnx.Rngs, fit: Fit
) -> Report:
  sites, unreached = _walk(model)
  sites = list(sites.values())
  choices = _choices(sites, rule_list)
  _check_untied(sites, choices)
  is_plain = isinstance(fit, bool | str)
  weights = {} if is_plain else fit.weightings(model, rule_list)
  made = [
    (site, *_make(site, choice, rngs, bool(fit), weights.get(site.path)))
    for site, choice in zip(sites, choices, strict=True)
    if choice is not None
  ]
  # Only now: a rule that does not fit leaves the model as it was.
  for site, module, _ in made:
    site.replace(module)
  swapped = tuple(swap for _, _, swap in made)
  kept = tuple(
    site.path
    for site, choice in zip(sites, choices, strict=True)
    if choice is None
  )
  return Report(swapped, kept, tuple(unreached))
