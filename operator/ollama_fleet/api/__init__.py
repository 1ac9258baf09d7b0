"""The contract: the three custom resources, their words and their units."""

GROUP = "ollamafleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
