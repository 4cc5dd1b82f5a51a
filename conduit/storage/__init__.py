"""Where feedback and snapshots are kept, so that learning survives and replicas share it."""
