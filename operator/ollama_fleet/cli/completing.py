"""What the shell completes arguments with; it asks no cluster, and so is quick."""

import click

from ollama_fleet.plan.catalogue import catalogue


def any_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Models on offer."""
    return [offer.name for offer in catalogue() if offer.name.startswith(incomplete)]
