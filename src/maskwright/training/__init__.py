"""Training: the loop, one step of it, its state on disk, its optimiser and its time."""
