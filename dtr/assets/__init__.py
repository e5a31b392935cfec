"""Networks that the benchmark needs but does not compare. Arrays in: they know no dataset."""
