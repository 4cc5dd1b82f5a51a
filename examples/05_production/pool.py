"""The models of these examples: those whose key is set, else simulated ones on this machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from conduit import ModelArm
from conduit.catalogue.models import arms_from_environment
from conduit.testing import LocalProvider


@contextmanager
def pool() -> Iterator[Sequence[ModelArm]]:
    """Give the models to choose among, and say which they are."""
    found = arms_from_environment(os.environ)
    if found:
        print("asking", ", ".join(arm.id for arm in found))
        yield found
        return
    print("no provider key is set: simulated models on this machine answer, at no cost")
    with LocalProvider().serve_in_thread() as provider:
        yield provider.arms
