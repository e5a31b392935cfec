"""Training one run: objective and step, the loop around them, checkpoints, several processes."""
