"""Pure functions on arrays: modes and trains."""
