"""Tables 1-8 as the paper lays them out."""
