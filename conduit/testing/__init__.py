"""What implementers and applications test with: contract suites and fakes with real protocols.

Each name is fetched from its module on first use; the suites need pytest, the fakes do not.
"""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.testing.caches import CacheContract
    from conduit.testing.embedders import EmbedderContract
    from conduit.testing.executors import ExecutorContract
    from conduit.testing.local_provider import (
        Fault,
        FaultKind,
        LocalProvider,
        SimulatedModel,
    )
    from conduit.testing.policies import PolicyContract
    from conduit.testing.stores import StoreContract
else:
    __getattr__ = exporter(
        __name__,
        {
            "CacheContract": "conduit.testing.caches",
            "EmbedderContract": "conduit.testing.embedders",
            "ExecutorContract": "conduit.testing.executors",
            "Fault": "conduit.testing.local_provider",
            "FaultKind": "conduit.testing.local_provider",
            "LocalProvider": "conduit.testing.local_provider",
            "SimulatedModel": "conduit.testing.local_provider",
            "PolicyContract": "conduit.testing.policies",
            "StoreContract": "conduit.testing.stores",
        },
    )

__all__ = [
    "CacheContract",
    "EmbedderContract",
    "ExecutorContract",
    "Fault",
    "FaultKind",
    "LocalProvider",
    "PolicyContract",
    "SimulatedModel",
    "StoreContract",
]
