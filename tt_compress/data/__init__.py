"""Data of any kind: sources, vocabularies, filters and fixed-shape batches."""
