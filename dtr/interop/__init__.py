"""Other people's files: released checkpoints, and samples for other evaluators."""
