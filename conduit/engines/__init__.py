"""The path of a query, from its text to a model that answers and an outcome that teaches."""
