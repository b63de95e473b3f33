"""Studies: many runs of a recipe with something changed, and what can be concluded from them."""
