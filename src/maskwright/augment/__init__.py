"""Augmentation of whole batches on the training device: drawn from counters, image and mask together."""
