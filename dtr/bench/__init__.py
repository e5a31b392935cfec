"""How fast this machine does the benchmark's work: cases, each timed beside its own baseline."""
