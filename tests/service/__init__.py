"""The service in several processes, killed and resumed."""
