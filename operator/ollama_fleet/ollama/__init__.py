"""The Ollama port: what the fleet says to Ollama servers and to model registries."""
