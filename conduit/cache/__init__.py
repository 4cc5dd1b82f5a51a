"""Where computed features are remembered between queries."""
