"""Studies: a paper's table as a list of runs, and what one sees of it."""
