"""Simulated machines: Kubernetes nodes whose pods run as processes of this machine."""
