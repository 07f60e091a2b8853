"""Learning rates of factors, relative to that of the matrix they stand for.

x W is a chain of products with its factors. A product of x, whose entries have
size 1, with an array that a step changes by entries of size c changes by about
fan_in c, because the change is aligned with x. So a factor moves the result as
much as its share of a dense matrix would if

  c(factor) fan_in(factor) = c(W) fan_in(W) / number of factors,

as the changes that the factors cause add up. For the learning rate r and an
array of n numbers, c depends on the optimizer:

  sign    c ~ r: every entry is divided by its own size (Adam and its like);
  array   c ~ r / sqrt(n): the array is divided by its norm (NovoGrad);
  none    c = r g for entries g of the gradient (SGD). The change of the loss,
          n g c by this array, is about fan_in c times that by its product, so
          g ~ fan_in / n and c ~ r fan_in / n.

Hence the rate of a factor, relative to that of W, is

  (fan_in(W) / fan_in(factor))^a (n(factor) / n(W))^b / number of factors

with (a, b) = (1, 0), (1, 1/2) and (2, 1). A lookup has fan_in 1, in W and in
the factor that is looked up first; the factors after it are products, which are
compared with a dense product of the same width, fan_in(W) = cols. For SGD and
one dense product of a width, this is the known fan_out / fan_in. A dense matrix
has the rate 1. The factors are assumed to keep the size of entries, as
initialization='spectral' makes them do.

A table that is looked up and makes the logits, too, has the rates of lookups,
but where changes have the size of r, all of its factors learn at least twice as
fast as a dense table. This is measured, not derived: with the rates of lookups
alone, such tables learn too slowly, low rank above all, and with the larger of
the rates of both uses, sums of Kronecker products gain nothing (see
`docs/training_well.md`).

Reference: Qiu et al., "Compute Better Spent: Replacing Dense Layers with
Structured Matrices", section 3 for Adam; Yang et al., "A Spectral Condition for
Feature Learning", for gradient descent.
"""

from tt_compress.algebra import networks
from tt_compress.parameterizations import base, dense
from tt_compress.training import build

# (a, b) by the name of an optimizer, see above.
_EXPONENTS = {
  'adagrad': (1, 0.0),
  'adam': (1, 0.0),
  'adamax': (1, 0.0),
  'novograd': (1, 0.5),
  'sgd': (2, 1.0),
}
_SIGN = (1, 0.0)
# The least rate of a factor of a table that makes the logits, too.
_TIED = 2.0


def check(name: str) -> None:
  """Refuses optimizers without a rule.

  Raises:
    ValueError: adafactor or lamb.
  """
  if name not in _EXPONENTS:
    raise ValueError(
      'optimizer.structure_aware=True has no rule for optimizer.name='
      f'{name!r}, whose updates are relative to the size of an array itself; '
      f'choose one of {", ".join(_EXPONENTS)}, or set structure_aware=False '
      'and rates by optimizer.rules'
    )


def relative(name: str, blueprint: build.Blueprint) -> dict[str, float]:
  """{path: relative rate} of the factors of all matrices.

  Factors that are no products, such as scales, biases, and the gates and
  references of a nonlinear train, are left out and keep the full rate.

  Args:
    name: of an optimizer that has a rule.
    blueprint: of the model.

  Raises:
    ValueError: the products of a matrix are not known.
  """
  a, b = _EXPONENTS[name]
  shapes = blueprint.factors
  rates = {}
  for path, spec in blueprint.matrices.items():
    whole = dense.Dense(rows=spec.rows, cols=spec.cols)
    [(whole_in, _)] = _fans(path, whole, blueprint).values()
    fans = _fans(path, spec, blueprint)
    role = blueprint.roles[path]
    is_looked_up = role in ('rows', 'tied')
    is_raised = role == 'tied' and len(fans) > 1 and (a, b) == _SIGN
    for factor, (fan_in, _) in fans.items():
      is_product = is_looked_up and fan_in > 1
      dense_in = spec.cols if is_product else whole_in
      at = f'{path}/factors/{factor}'
      size = shapes[at].size / (spec.rows * spec.cols)
      rate = (dense_in / fan_in) ** a * size**b / len(fans)
      rates[at] = max(rate, _TIED) if is_raised else rate
  return rates


def _fans(
  path: str, spec: base.Parameterization, blueprint: build.Blueprint
) -> dict[str, tuple[int, int]]:
  try:
    return spec.fans(networks.USES[blueprint.roles[path]][0])
  except NotImplementedError as error:
    raise ValueError(
      f'optimizer.structure_aware=True needs the fans of {path}, a '
      f'{type(spec).__name__}, which has none; set it False, or give '
      f'{type(spec).__name__} a network or fans'
    ) from error
