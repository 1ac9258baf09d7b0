"""The data plane: one endpoint in front of many Ollama servers."""
