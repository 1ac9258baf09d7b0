"""The mirror: a model registry that fetches each blob once for the whole fleet."""
