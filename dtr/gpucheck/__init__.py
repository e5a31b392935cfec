"""Whether this package computes on a GPU what it computes on a CPU, and how fast: one page."""
