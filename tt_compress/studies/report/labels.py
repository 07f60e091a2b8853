"""Where the labels of points go, so that little lies on top of another."""

import math

import numpy as np

_ANGLES = np.radians([0, 180, 90, 270, 45, 135, 225, 315, 20, 160, 200, 340])
_RADII = (7, 13, 20, 28, 38, 50, 64, 80)
# In units of length: how much farther away a place may be to avoid it.
_OVERLAP, _OUTSIDE, _HIDDEN = 500, 1000, 6


def place(points, sizes, obstacles, frame):
  """Chooses a place around its point for every label, one after the other.

  Each takes the place that is nearest to its point, where lying on a label,
  on an obstacle or outside the frame counts as far.

  Args:
    points: [n, 2], in any unit of length, such as pixels.
    sizes: [n, 2], width and height of the labels.
    obstacles: [m, 2], points that had better not be hidden.
    frame: (left, bottom, right, top).

  Returns:
    [n, 2], the lower left corners.
  """
  places = np.zeros((len(points), 2))
  boxes = []
  # Where points lie close together there is the least choice: these first.
  for i in sorted(range(len(points)), key=lambda i: -_crowd(points, i)):
    corners = list(_corners(points[i], sizes[i]))
    costs = [
      _cost(box(corner, sizes[i]), boxes, obstacles, frame) + far
      for corner, far in corners
    ]
    places[i] = corners[int(np.argmin(costs))][0]
    boxes.append(box(places[i], sizes[i]))
  return places


def along(line):
  """Points along a line [n, 2], four pixels apart."""
  parts = [line[:1]]
  for start, end in zip(line[:-1], line[1:], strict=True):
    number = 1 + int(np.linalg.norm(end - start) / 4)
    parts.append(np.linspace(start, end, number + 1)[1:])
  return np.concatenate(parts)


def under(line):
  """A grid of points under the mark at every point of a line [n, 2]."""
  grid = np.mgrid[-4:5:4, -4:5:4].reshape(2, -1).T
  return (line[:, None] + grid).reshape(-1, 2)


def box(corner, size):
  """(left, bottom, right, top) of a label."""
  return (*corner, corner[0] + size[0], corner[1] + size[1])


def overlap(a, b):
  """The area that two boxes share."""
  width = min(a[2], b[2]) - max(a[0], b[0])
  height = min(a[3], b[3]) - max(a[1], b[1])
  return max(width, 0) * max(height, 0)


def _crowd(points, i):
  distances = np.linalg.norm(np.asarray(points) - points[i], axis=1)
  return np.exp(-distances / 40).sum()


def _corners(point, size):
  """Yields (lower left corner, distance) of the candidates."""
  for radius in _RADII:
    for angle in _ANGLES:
      x, y = math.cos(angle), math.sin(angle)
      # The side of the label that faces the point is at the radius.
      left = point[0] + radius * x + (x - 1) / 2 * size[0]
      bottom = point[1] + radius * y + (y - 1) / 2 * size[1]
      yield (left, bottom), radius


def _cost(label, boxes, obstacles, frame):
  area = (label[2] - label[0]) * (label[3] - label[1])
  outside = area - overlap(label, frame)
  shared = sum(overlap(label, other) for other in boxes)
  hidden = np.all((obstacles >= label[:2]) & (obstacles <= label[2:]), axis=1)
  weighed = _OUTSIDE * outside + _OVERLAP * shared
  return weighed / area + _HIDDEN * hidden.sum()
