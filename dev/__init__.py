"""What developing needs: a local Kubernetes, an Ollama to run on it, generators, the demo."""
