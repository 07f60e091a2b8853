"""Constructions of theorems, imported by tests and notebooks only."""
