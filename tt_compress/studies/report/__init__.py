"""A study's tables and figures."""
