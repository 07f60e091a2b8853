"""Colors of Okabe and Ito, distinct for the colorblind, on white."""

BLUE, ORANGE, GREEN = '#0072B2', '#D55E00', '#009E73'
LINES = (BLUE, ORANGE, GREEN, '#CC79A7', '#56B4E9', '#E69F00', '#000000')
GRAY, INK, GRID = '#767676', '#222222', '#E6E6E6'
WARNING = '#B00020'
