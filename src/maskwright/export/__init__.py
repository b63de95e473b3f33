"""Out of the lab: one file that takes pictures and gives masks, and its proof that it is the model that was evaluated."""
