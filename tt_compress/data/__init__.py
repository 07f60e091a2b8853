"""Parallel text: sources, vocabulary, filters and fixed-shape batches."""
