"""Measurements, each a module to run, that leave their numbers in results/."""
