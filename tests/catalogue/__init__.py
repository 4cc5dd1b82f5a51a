"""Tests of what is known about models before the first query."""
