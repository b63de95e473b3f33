"""From files to (picture, mask): classes, decoding, layouts, splits, fingerprints, the decoded store."""
