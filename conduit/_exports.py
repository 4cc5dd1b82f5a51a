"""Packages offer names from their modules without importing them before they are used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def exporter(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package that fetches each name from its module on first use."""

    def fetch(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        value: object = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    return fetch
