"""The operator under fire: one fault at a time between it and the API server."""
