"""Every field of the three kinds changed, and what came of it."""
