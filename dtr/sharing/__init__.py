"""Results that change hands: checked, packed into one archive, merged with others."""
