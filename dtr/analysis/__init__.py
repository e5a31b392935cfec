"""What a model costs: parameters and operations."""
