"""What implementers and applications test with: contract suites and fakes with real protocols."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.testing.local_provider import (
        Fault,
        FaultKind,
        LocalProvider,
        SimulatedModel,
    )
else:
    __getattr__ = exporter(
        __name__,
        dict.fromkeys(
            ("Fault", "FaultKind", "LocalProvider", "SimulatedModel"),
            "conduit.testing.local_provider",
        ),
    )

__all__ = ["Fault", "FaultKind", "LocalProvider", "SimulatedModel"]
