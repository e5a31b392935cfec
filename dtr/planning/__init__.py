"""What a scale trains and measures, and where each result lies. Free of torch."""
