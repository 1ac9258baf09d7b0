"""An Ollama server without a model: the same wire, with memory, speed and faults by choice."""
