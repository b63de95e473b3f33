"""One file per layout of images and masks on disk: recognise it, complete its dataset.yaml, list its pairs."""
