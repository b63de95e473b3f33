"""The faults of a data set: found, shown, and mended in a new dataset.yaml."""
