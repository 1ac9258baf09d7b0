"""Grafana's dashboards, made from Python: `make generate` writes them into the chart."""
