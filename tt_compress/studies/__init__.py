"""A paper's table as a list of runs: train the rows, report the result."""
