"""Measurements: every figure that Conduit claims is printed by a module of this package."""
