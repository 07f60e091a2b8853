"""A toy language: words, lexicon and grammar."""
