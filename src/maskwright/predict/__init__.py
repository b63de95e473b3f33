"""From a picture of any kind and size to a mask of the same size: one path for all."""
