"""Quality of samples: features of a named extractor, and the metrics computed from them."""
