"""`kubectl ollama`: the fleet on a terminal."""
