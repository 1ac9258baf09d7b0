"""The fleet for people: what is on offer, where it runs, how it does."""
