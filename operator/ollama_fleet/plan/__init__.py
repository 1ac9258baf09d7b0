"""Pure decisions: from what is wanted, what is seen and what time it is, to what to do."""
