"""A supervisor that hands work to two agents."""
