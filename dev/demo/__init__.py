"""From nothing to a chat answer, and what happens when a server dies: `python -m dev.demo`."""
