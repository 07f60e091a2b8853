"""Logs of clicks: formats, rows of text, vocabularies and encoded files."""
