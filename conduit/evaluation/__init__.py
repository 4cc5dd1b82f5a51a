"""How we know that routing works: replays, judges and reports."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.evaluation.judge import ArbiterEvaluator
else:
    __getattr__ = exporter(__name__, {"ArbiterEvaluator": "conduit.evaluation.judge"})

__all__ = ["ArbiterEvaluator"]
