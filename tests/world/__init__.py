"""A living fleet while the world around its operator fails: machines, Kubernetes, clocks, keys."""
