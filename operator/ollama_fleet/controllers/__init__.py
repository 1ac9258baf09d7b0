"""The operator: watches, one reconciler per kind, and what runs them."""
