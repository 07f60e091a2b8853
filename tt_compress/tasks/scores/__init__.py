"""Scores of text."""
