"""What tells how good an answer was: signals, ratings and application events."""
