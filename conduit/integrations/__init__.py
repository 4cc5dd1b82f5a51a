"""Conduit inside other frameworks."""
