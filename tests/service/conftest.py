"""Migrated databases of either kind, for services in several processes."""

from tests.storage.conftest import url

__all__ = ["url"]
