"""Out of the lab: one file from pictures to masks, and the proof that it is the model that was evaluated."""
