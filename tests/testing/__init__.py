"""Tests of what Conduit ships for testing."""
