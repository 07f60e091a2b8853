"""Temporary."""
from tt_compress.data import text
SOURCES={'text': text.load}
def load(source, split, **options):
  return SOURCES[source](split, **options)
