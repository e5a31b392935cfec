"""What is written about a result, read back, and where it came from."""
