"""What is known about models before the first query: prices, limits and quality priors."""
