"""The verbs of `python -m dtr`, by what they are for."""
