"""Replaces matrices of any Flax model, by rules over their paths."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from tt_compress import parameterizations
from tt_compress.nn import (
  bottleneck,
  fitting,
  matching,
  replacement,
  rule_options,
  sites,
  stack,
  swapped,
)
from tt_compress.parameterizations import stacked


def compress(
  model: nnx.Module,
  rule_list: fitting.Rules,
  rngs: nnx.Rngs | None = None,
  *,
  fit: fitting.Fit = False,
) -> swapped.Report:
  """Replaces the matrices of a model whose path matches a rule, in place.

  Replaces `Linear` and `Embed`, and layers of Flax: `Linear`, `Embed`,
  `LinearGeneral` (as in `MultiHeadAttention`), `Einsum`, `Conv` and
  `ConvTranspose`; of these models of Linen in an `nnx.bridge.ToNNX`, `Dense`
  and `Embed`. `docs/own_models.md` says more. A rule is a pair of a pattern,
  matched by `re.fullmatch` with a path such as 'encoder/layers/0/ffn/up', and
  the options of `parameterizations.make`:
  `('.*/ffn/.*', dict(name='tensor_train', tt_rank=16))`. The first match wins.
  The option `std` overrides the standard deviation at initialization,
  `std_scale` multiplies that of the layer, and `bias=False` drops the bias.
  `activation='silu'` makes a `bottleneck.Bottleneck` of a linear layer and a
  pair of low rank.

  Any other `nnx.Param` with two or more axes is reached by a rule that says
  which axes are its rows: `('.*/attn/q', dict(row_axes=(0,), ...))`. It matches
  paths of such variables only; `stack_axes=1` says that their first axis is
  that of layers, or of experts.

  A shared module, or variable, stays shared. New layers keep `dtype`,
  `param_dtype`, the bias and the metadata of variables; layers whose arrays
  have a leading axis of layers, for `nnx.scan`, or of experts, get factors with
  that axis. Without a `dtype`, a `Linear` of this package computes in the dtype
  of its input, and one that replaces a layer of Flax in the wider of input and
  factors, as that layer did.

  Under `nnx.eval_shape` or inside `jax.jit`, the replaced matrices are never
  allocated.

  Args:
    model: any Flax NNX model.
    rule_list: pairs of pattern and options, or a dict of them.
    rngs: source of the keys for new factors; `nnx.Rngs(0)` if None.
    fit: how new factors start. False: randomly. True or 'weights': near the
      present matrices. A `calibration.Calibration`: so that the products of the
      matrices in its batches are near; a `layer_by_layer.LayerByLayer`: in the
      order of use, with inputs of the compressed model. A function of the path
      of a matrix, its spec and the present matrix: as it returns.

  Returns:
    A report of the matrices that were replaced, kept and out of reach.

  Raises:
    ValueError: a rule matches nothing, or its options do not suit the matrix,
      or batches of a calibration do not run; the model stays as it was.
  """
  rule_list = fitting.pairs(rule_list)
  rngs = nnx.Rngs(0) if rngs is None else rngs
  if not hasattr(rngs, 'params'):
    raise TypeError(f'rngs={rngs!r} has no keys; pass nnx.Rngs(seed)')
  fitting.check(fit)
  with stack.unrolled(model):
    return _compress(model, rule_list, rngs, fit)


def _compress(
  model: nnx.Module,
  rule_list: Sequence[tuple[str, Mapping[str, Any]]],
  rngs: nnx.Rngs,
  fit: fitting.Fit,
) -> swapped.Report:
  found = sites.find(model)
  choices = matching.choices(found, rule_list)
  matching.check_untied(found, choices)
  fit, weights = fitting.functions(fit, model, rule_list)
  made = [
    _make(site, choice, rngs, fit, weights) for site, choice in choices.items()
  ]
  for new, _ in made:
    new.check()
  # Only now: a rule that does not fit leaves the model as it was.
  for new, _ in made:
    new.apply()
  kept = tuple(site.path for site in found.sites if site not in choices)
  chosen = {site.path for site in choices}
  unreached = {
    path: reason
    for path, reason in matching.out_of_reach(found).items()
    if path not in chosen
  }
  return swapped.Report(tuple(swap for _, swap in made), kept, unreached)


def _make(
  site: sites.Site,
  choice: Mapping,
  rngs: nnx.Rngs,
  fit: fitting.Function | None,
  weights: fitting.Weights,
) -> tuple[replacement.Replacement, swapped.Swap]:
  """What replaces the matrix of a site, and its entry in the report."""
  choice = dict(choice)
  axes = rule_options.take_axes(site, choice)
  options = rule_options.take_layer(site, axes, choice, fit is not None)
  if 'name' not in choice:
    raise ValueError(
      f'the rule for {site.path} has no name: {choice}; say which '
      f'parameterization, one of {sorted(parameterizations.REGISTRY)}'
    )
  try:
    spec = parameterizations.make(rows=axes.rows, cols=axes.cols, **choice)
    if options.activation is not None:
      bottleneck.check(spec, options.activation)
  except (TypeError, ValueError) as error:
    raise ValueError(f'cannot compress {site.path}: {error}') from error
  spec = stacked.of_sizes(spec, axes.stack)
  new = replacement.make(site, axes, spec, options, rngs)
  swap = swapped.Swap(site.path, spec)
  if fit is not None:
    weight = site.matrix(axes)
    fitted = fitting.fitted(fit, site.path, spec, weight)  # in float32
    new.matrix.update(
      jax.tree.map(lambda a, b: a.astype(b.dtype), fitted, new.matrix.values())
    )
    full = new.matrix.full()
    swap = dataclasses.replace(
      swap,
      error=fitting.relative_error(weight, full),
      product_error=fitting.product_error(weights, site.path, weight, full),
    )
  new.place()
  return new, swap
