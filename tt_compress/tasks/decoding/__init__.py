"""Beam search, and the decoder that runs it over devices."""
