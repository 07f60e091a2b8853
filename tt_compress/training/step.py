"""The training step: one program, factor-sized traffic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from tt_compress.nn import looked_up, matrix, modules, together
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import sharding
from tt_compress.training import lazy

# Largest array that is copied so that it travels with others, in numbers.
_SMALL = 2**16

Loss = Callable[..., tuple[jax.Array, jax.Array, Any]]


def _varying(tree):
  """Marks arrays as different on every shard of the data.

  Without the mark, `shard_map` sums gradients over the shards where products of
  factors are differentiated: the traffic is dense-sized, and the sum of
  `_sum` comes on top, so results are too large by the number of devices.
  """
  axes = jax.sharding.get_abstract_mesh().manual_axes
  return jax.tree.map(lambda a: jax.lax.pcast(a, axes, to='varying'), tree)


def _accumulate(function, params, batch, carry, parts: int):
  """Computes a batch in equal parts, one after the other.

  Args:
    function: (params, part of the batch, part of the carry) -> (sums, carry).
    params: of the model.
    batch: arrays [examples, ...].
    carry: arrays [examples, ...].
    parts: how many.

  Returns:
    The sums over all parts, and their carries concatenated.
  """
  if parts == 1:
    return function(params, batch, carry)
  inputs = jax.tree.map(
    lambda a: a.reshape(parts, a.shape[0] // parts, *a.shape[1:]),
    (batch, carry),
  )
  first = jax.tree.map(lambda a: a[0], inputs)
  shapes, _ = jax.eval_shape(function, params, *first)
  zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

  def add(total, part):
    sums, carry = function(params, *part)
    return jax.tree.map(jnp.add, total, sums), carry

  total, carries = jax.lax.scan(add, _varying(zeros), inputs)
  return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), carries)


def _check_carry(given, returned) -> None:
  """Refuses a carry that neither the next step nor a checkpoint can take."""
  given, returned = jax.tree.map(
    lambda a: f'{a.dtype}{list(a.shape)}', (given, returned)
  )
  if given != returned:
    raise ValueError(
      f'the loss returns the carry {returned}, but its argument was {given}; '
      'both must have the tree, dtypes and shapes of carry_shapes: cast the '
      'returned carry, or change carry_shapes'
    )


def _sum(tree, shardings):
  """Sums over the shards of the data; small arrays travel as one.

  Between processes on CPUs every sum takes milliseconds, however small it is,
  and factors are many small arrays.

  Args:
    tree: arrays, different on every shard.
    shardings: of the arrays, a prefix of the tree; arrays that are sharded over
      the model travel alone.
  """
  is_small = jax.tree.map(
    lambda a, place: place.is_fully_replicated and a.size <= _SMALL,
    tree,
    jax.tree.broadcast(shardings, tree),
  )
  small = jax.tree.map(lambda a, own: a if own else None, tree, is_small)
  others = jax.tree.map(lambda a, own: None if own else a, tree, is_small)
  flat, unravel = jax.flatten_util.ravel_pytree(small)
  axes = jax.sharding.get_abstract_mesh().manual_axes
  flat, others = jax.lax.psum((flat, others), axes)
  return matrix.join(unravel(flat), others)


def _taps(arrays, trace) -> looked_up.Taps:
  """Zeros for the rows that are looked up in tables.

  Args:
    arrays: of the tables, by path.
    trace: () -> ids of each lookup, by path.

  Raises:
    ValueError: a table that is not looked up.
  """
  ids = jax.eval_shape(trace)
  for path, found in ids.items():
    if not found:
      raise ValueError(
        f'optimizer.lazy: the loss does not call the layer {path}; leave it '
        'out of optimizer.lazy'
      )
  zeros = lambda ids, table: jnp.zeros((ids.size, table.shape[1]), table.dtype)
  return _varying(
    {path: [zeros(each, arrays[path]) for each in ids[path]] for path in ids}
  )


def make_gradients(
  graphdef: nnx.GraphDef,
  loss: Loss,
  mesh: Mesh,
  accumulation: int = 1,
  shardings: Any = None,
  tables: Sequence[str] = (),
  tokens: int | None = None,
):
  """Makes the function of the mean loss over a global batch and its gradients.

  Losses, weights and gradients are summed over the global batch before the
  division, so the mean is over all tokens or examples, whichever device has
  them. Only these sums travel over the axis 'data': as many numbers as a device
  has parameters. The compiler decides what travels over the axis 'model'.

  Args:
    graphdef: graph of the model.
    loss: see `tasks.base.Task.loss`.
    mesh: of the run.
    accumulation: microbatches in which each device computes its examples.
    shardings: of the parameters, one for all or a tree; replicated if None.
    tables: paths of dense matrices that are not differentiated as arrays, see
      `lazy`.
    tokens: approximate number of vectors in a global batch, by which matrices
      are chosen that are materialized once per step; None for no matrix.

  Returns:
    (params, buffers, batch, carry, key, *constants) -> (mean loss, sum of
    weights, gradients of all parameters but tables, carry, `lazy.Rows` that
    were looked up by path of a table). The last two are sharded over the data.
    The loss gets the constants behind its other arguments.
  """
  whole = sharding.replicated(mesh)
  if shardings is None:
    shardings = whole
  elif isinstance(shardings, Mapping):
    _, shardings = lazy.separate(shardings, tables)
  places = (whole, whole), shardings

  def local(params, buffers, batch, carry, key, *constants):
    arrays, others = lazy.separate(_varying(params), tables)

    def materialized(others):
      """The model for the loss: (trained arrays, (graph, buffers))."""
      model = modules.merge(graphdef, lazy.join(arrays, others), buffers)
      if tokens is not None:
        together.materialize(model, tokens // mesh.shape[sharding.DATA])
      graph, params, own = modules.split(model)
      return lazy.separate(params, tables)[1], (graph, own)

    others, pull_back, (graph, own) = jax.vjp(
      materialized, others, has_aux=True
    )

    def sums(others, taps, part, given):
      model = modules.merge(graph, lazy.join(arrays, others), own)
      ids = looked_up.record(model, tables, taps)
      noise = Noise(key, part['positions'])
      total, weight, carry = loss(model, part, noise, given, *constants)
      _check_carry(given, carry)
      return total, (weight, carry, ids)

    def gradient(others, part, given):
      trace = lambda: sums(others, None, part, given)[1][-1]
      taps = _taps(arrays, trace) if tables else {}
      (total, (weight, carry, ids)), (gradients, rows) = jax.value_and_grad(
        sums, (0, 1), has_aux=True
      )(others, taps, part, given)
      return ((total, weight), gradients), (carry, lazy.lookups(ids, rows))

    (totals, gradients), (carry, rows) = _accumulate(
      gradient, others, batch, carry, accumulation
    )
    [gradients] = pull_back(gradients)
    (total, weight), gradients = _sum((totals, gradients), places)
    scaled = jax.tree.map(lambda g: g / weight, gradients)
    rows = {
      path: found._replace(gradients=found.gradients / weight)
      for path, found in rows.items()
    }
    return total / weight, weight, scaled, carry, rows

  if mesh.shape[sharding.DATA] == 1 < mesh.shape[sharding.MODEL]:
    return _in_mesh(local, mesh)
  everywhere, data = PartitionSpec(), PartitionSpec(sharding.DATA)

  def gradients(params, buffers, batch, carry, key, *constants):
    sharded = jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(
        *(everywhere, everywhere, data, data, everywhere),
        *(everywhere for _ in constants),
      ),
      out_specs=(everywhere, everywhere, everywhere, data, data),
      axis_names={sharding.DATA},
    )
    return sharded(params, buffers, batch, carry, key, *constants)

  return gradients


def _in_mesh(function, mesh: Mesh):
  """The function, traced in a mesh whose axes are all automatic.

  XLA refuses the sums of a `shard_map` over one share of the data where other
  axes have several devices.
  """

  def call(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args)

  return call


def make_step(
  graphdef: nnx.GraphDef,
  loss: Loss,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  *,
  seed: int,
  num_examples: float,
  accumulation: int = 1,
  shardings: Mapping[str, Any] | None = None,
  tables: Sequence[str] = (),
  tokens: int | None = None,
  constants: Sequence[Any] = (),
  skips_non_finite: bool = False,
):
  """Makes the compiled update of the state.

  Training minimizes (sum of losses + penalty) / num_examples over an epoch, so
  a step adds penalty / num_examples to the mean loss of its batch. The state
  is a plain dict {'step', 'params', 'buffers', 'opt_state', 'carry'}; it is
  donated. The noise is a function of the seed and the step.

  Args:
    graphdef: graph of the model.
    loss: see `tasks.base.Task.loss`.
    optimizer: of the parameters; its update may have the argument `buffers`.
    mesh: of the run.
    seed: of the noise.
    num_examples: sum of the weights of the loss over an epoch.
    accumulation: microbatches in which each device computes its examples.
    shardings: of a state, see `layout.Layout`; if None, the carry is sharded
      over the data and everything else is replicated.
    tables: paths of the dense matrices with lazy updates, see `lazy`.
    tokens: see `make_gradients`.
    constants: shardings of further arguments of the loss, which no step
      changes.
    skips_non_finite: whether a step changes nothing but its number, and what
      `project` does at this number, if its loss or the norm of its gradient is
      not finite.

  Returns:
    (state, batch, *constants) -> (state, {'loss', 'grad_norm', 'weight'}).
  """
  whole = sharding.replicated(mesh)
  if shardings is None:
    shardings = _replicated_but_carry(mesh)
  gradients = make_gradients(
    graphdef, loss, mesh, accumulation, shardings['params'], tables, tokens
  )
  optimizer = optax.with_extra_args_support(optimizer)

  def penalty(others, arrays, buffers):
    params = lazy.join(arrays, others)
    model = modules.merge(graphdef, params, buffers)
    total = jnp.asarray(modules.penalty(model), jnp.float32)
    return total / float(num_examples)

  def update(state, batch, *constants):
    params, buffers = state['params'], state['buffers']
    key = jax.random.fold_in(jax.random.key(seed), state['step'])
    mean, weight, grads, carry, rows = gradients(
      params, buffers, batch, state['carry'], key, *constants
    )
    arrays, others = lazy.separate(params, tables)
    extra, extra_grads = jax.value_and_grad(penalty)(others, arrays, buffers)
    grads = jax.tree.map(jnp.add, grads, extra_grads)
    # Every device updates the rows that any of them looked up.
    rows = jax.lax.with_sharding_constraint(rows, whole)
    params, opt_state, norm = lazy.update(
      optimizer, grads, rows, state['opt_state'], params, buffers=buffers
    )
    metrics = {
      'loss': mean + extra,
      'grad_norm': norm,
      'weight': weight,
    }
    found = {'params': params, 'opt_state': opt_state, 'carry': carry}
    if skips_non_finite:
      is_finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(norm)
      found = jax.tree.map(
        lambda new, old: jnp.where(is_finite, new, old),
        found,
        {name: state[name] for name in found},
      )
    # Of skipped steps, too: schedules such as that of pruning go on.
    model = modules.merge(graphdef, found['params'], buffers)
    step = state['step'] + 1
    modules.project(model, step)
    _, params, buffers = modules.split(model)
    projected = {'params': params, 'buffers': buffers}
    return {'step': step, **found, **projected}, metrics

  return jax.jit(
    update,
    in_shardings=(shardings, sharding.along_data(mesh), *constants),
    out_shardings=(shardings, whole),
    donate_argnums=0,
  )


def _replicated_but_carry(mesh: Mesh) -> dict[str, Any]:
  """Shardings of a state whose parameters are not sharded."""
  whole = sharding.replicated(mesh)
  names = ('step', 'params', 'buffers', 'opt_state')
  return dict.fromkeys(names, whole) | {'carry': sharding.along_data(mesh)}


def start(
  variables: Mapping,
  optimizer: optax.GradientTransformation,
  carry: Any = None,
) -> dict[str, Any]:
  """The state before the first step; of shapes under `jax.eval_shape`.

  Args:
    variables: arrays of the model, {'params', 'buffers'}.
    optimizer: of the parameters.
    carry: its shapes in memory, see `carry.in_memory`; None for no carry.
  """
  return {
    'step': jnp.zeros((), jnp.int32),
    'params': variables['params'],
    'buffers': variables['buffers'],
    'opt_state': optimizer.init(variables['params']),
    'carry': jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), carry or {}),
  }


def initial_state(
  variables: Mapping,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  shardings: Mapping[str, Any] | None = None,
  carry: Any = None,
) -> dict[str, Any]:
  """The state before the first step, created where it belongs; see `start`."""
  shardings = _replicated_but_carry(mesh) if shardings is None else shardings
  make = lambda variables: start(variables, optimizer, carry)
  # Under jit with shardings: made eagerly, a scalar would end on one device.
  return jax.jit(make, out_shardings=shardings)(variables)
