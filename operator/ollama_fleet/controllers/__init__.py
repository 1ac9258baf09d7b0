"""The operator: watches, one reconciler per kind, and what runs them."""

# before kopf, which imports the official client as it is
import ollama_fleet.kube.official  # noqa: F401
