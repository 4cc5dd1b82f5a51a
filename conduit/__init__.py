"""Conduit routes each LLM query to the model that will serve it best, and learns from what happens.

The names here are the public ones. Importing this package imports none of their modules, and no
vendor's library, until a name is used.
"""

from typing import TYPE_CHECKING

from conduit._exports import exporter

__version__ = "0.1.0"

if TYPE_CHECKING:
    from conduit.catalogue.models import supported_models
    from conduit.config import Settings
    from conduit.core.errors import (
        AllModelsFailed,
        BudgetExceeded,
        ConduitError,
        ConfigurationError,
        ConflictingFeedback,
        ExecutionError,
        ExpiredDecision,
        IncompatibleState,
        InvalidInput,
        NoEligibleModel,
        OutputInvalid,
        ProviderError,
        StorageUnavailable,
        UnknownDecision,
    )
    from conduit.core.models import (
        Feedback,
        ModelArm,
        Preferences,
        Query,
        QueryConstraints,
        QueryFeatures,
        Response,
        RoutingDecision,
        RoutingResult,
    )
    from conduit.engines.bandits.policies import register_policy
    from conduit.engines.budget import Budget
    from conduit.engines.router import Router
    from conduit.service import Service, create_router, create_service
else:
    # One table says where each public name lives; the block above tells type checkers the same.
    __getattr__ = exporter(
        __name__,
        {
            "supported_models": "conduit.catalogue.models",
            "Settings": "conduit.config",
            "AllModelsFailed": "conduit.core.errors",
            "BudgetExceeded": "conduit.core.errors",
            "ConduitError": "conduit.core.errors",
            "ConfigurationError": "conduit.core.errors",
            "ConflictingFeedback": "conduit.core.errors",
            "ExecutionError": "conduit.core.errors",
            "ExpiredDecision": "conduit.core.errors",
            "IncompatibleState": "conduit.core.errors",
            "InvalidInput": "conduit.core.errors",
            "NoEligibleModel": "conduit.core.errors",
            "OutputInvalid": "conduit.core.errors",
            "ProviderError": "conduit.core.errors",
            "StorageUnavailable": "conduit.core.errors",
            "UnknownDecision": "conduit.core.errors",
            "Feedback": "conduit.core.models",
            "ModelArm": "conduit.core.models",
            "Preferences": "conduit.core.models",
            "Query": "conduit.core.models",
            "QueryConstraints": "conduit.core.models",
            "QueryFeatures": "conduit.core.models",
            "Response": "conduit.core.models",
            "RoutingDecision": "conduit.core.models",
            "RoutingResult": "conduit.core.models",
            "register_policy": "conduit.engines.bandits.policies",
            "Budget": "conduit.engines.budget",
            "Router": "conduit.engines.router",
            "Service": "conduit.service",
            "create_router": "conduit.service",
            "create_service": "conduit.service",
        },
    )

__all__ = [
    "AllModelsFailed",
    "Budget",
    "BudgetExceeded",
    "ConduitError",
    "ConfigurationError",
    "ConflictingFeedback",
    "ExecutionError",
    "ExpiredDecision",
    "Feedback",
    "IncompatibleState",
    "InvalidInput",
    "ModelArm",
    "NoEligibleModel",
    "OutputInvalid",
    "Preferences",
    "ProviderError",
    "Query",
    "QueryConstraints",
    "QueryFeatures",
    "Response",
    "Router",
    "RoutingDecision",
    "RoutingResult",
    "Service",
    "Settings",
    "StorageUnavailable",
    "UnknownDecision",
    "__version__",
    "create_router",
    "create_service",
    "register_policy",
    "supported_models",
]


def __dir__() -> list[str]:
    """List the public names, used or not."""
    return __all__
