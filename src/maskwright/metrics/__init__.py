"""Scores and what they mean: the contract, integer counts, and numbers with intervals made from counts
alone."""
