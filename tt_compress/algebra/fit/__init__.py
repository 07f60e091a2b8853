"""On the host, in NumPy: fitting factors to a matrix."""
