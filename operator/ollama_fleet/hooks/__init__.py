"""What the chart runs beside its programs: `helm test`, and the way out before `helm uninstall`."""
