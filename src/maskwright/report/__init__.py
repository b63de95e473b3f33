"""What a run has to show: one HTML file that opens offline, and the model card."""
