"""Self-registration of machines outside Kubernetes."""
