"""Recurrences as loops in NumPy, over one example and one cell at a time."""

import numpy as np

from tt_compress.nn import cells


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def weights(cell):
  """W, U, b and c of a cell, in float64; c is zero if there is none."""
  bias = lambda layer: 0.0 if layer.bias is None else layer.bias.get_value()
  arrays = (
    *(cell.input.full(), cell.recurrent.full()),
    *(bias(cell.input), bias(cell.recurrent)),
  )
  return [np.asarray(array, np.float64) for array in arrays]


def step(cell, arrays, x, state):
  """The next state of one example, from the published equations."""
  w, u, b, c = arrays
  if isinstance(cell, cells.LSTM):
    i, f, g, o = np.split(x @ w + b + state['h'] @ u + c, 4)
    memory = sigmoid(f) * state['c'] + sigmoid(i) * np.tanh(g)
    return {'h': sigmoid(o) * np.tanh(memory), 'c': memory}
  x_r, x_z, x_n = np.split(x @ w + b, 3)
  h_r, h_z, h_n = np.split(state['h'] @ u + c, 3)
  r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
  return {'h': (1 - z) * np.tanh(x_n + r * h_n) + z * state['h']}


def run(model, x, lengths, states=None):
  """Outputs of every token, zero at padding, and states of every cell."""
  x = np.asarray(x, np.float64)
  last = [[] for _ in x]
  for layer in model.layers:
    outputs = []
    for direction in ('forward', 'backward'):
      if direction not in layer:
        continue
      cell = layer[direction]
      arrays = weights(cell)
      found = np.zeros((*x.shape[:2], cell.hidden_dim))
      for example, length in enumerate(lengths):
        state = dict.fromkeys(cell.state_names, np.zeros(cell.hidden_dim))
        if states is not None:
          number = len(last[example])
          state = {k: a[example, number] for k, a in states.items()}
        times = range(length)
        for t in reversed(times) if direction == 'backward' else times:
          state = step(cell, arrays, x[example, t], state)
          found[example, t] = state['h']
        last[example].append(state)
      outputs.append(found)
    x = np.concatenate(outputs, axis=-1)
  return x, {
    name: np.array([[state[name] for state in each] for each in last])
    for name in last[0][0]
  }
