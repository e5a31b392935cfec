"""The figures of the page, and its sheets of samples."""
