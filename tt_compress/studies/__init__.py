"""A paper's table as a list of runs: running it, telling it."""
