"""A method of one's own beside none and DTR: what is compared, its numbers, and its page."""
