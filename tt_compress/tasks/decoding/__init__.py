"""Greedy and beam search with any model that predicts the next id."""
