"""What users hand in and get back: frozen values that never hold a number that is not one.

This is the address to import them from; each is written where its reason to exist is.
"""

from conduit.core.answers import (
    SOURCES,
    Feedback,
    ImplicitFeedback,
    Response,
    RoutingResult,
    Source,
    quality_of,
)
from conduit.core.arms import ModelArm
from conduit.core.decisions import Choice, Exclusion, ModelEstimate, RoutingDecision
from conduit.core.queries import (
    MAX_TEXT_CHARS,
    PRESETS,
    Preferences,
    Query,
    QueryConstraints,
    normalise_text,
    shown,
)
from conduit.core.vectors import QueryFeatures, Vector, as_vector, sealed

__all__ = [
    "MAX_TEXT_CHARS",
    "PRESETS",
    "SOURCES",
    "Choice",
    "Exclusion",
    "Feedback",
    "ImplicitFeedback",
    "ModelArm",
    "ModelEstimate",
    "Preferences",
    "Query",
    "QueryConstraints",
    "QueryFeatures",
    "Response",
    "RoutingDecision",
    "RoutingResult",
    "Source",
    "Vector",
    "as_vector",
    "normalise_text",
    "quality_of",
    "sealed",
    "shown",
]  # fmt: skip
