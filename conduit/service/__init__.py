"""The service: settings become objects, and a prompt becomes an answer."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.service.assembly import (
        DEFAULT_DATABASE_URL,
        create_router,
        create_service,
        create_service_sync,
        executor_of,
        router_of,
    )
    from conduit.service.readings import Health, ServiceStats
    from conduit.service.requests import AnswerInParts, text_of
    from conduit.service.service import Service
else:
    __getattr__ = exporter(
        __name__,
        {
            "AnswerInParts": "conduit.service.requests",
            "DEFAULT_DATABASE_URL": "conduit.service.assembly",
            "Health": "conduit.service.readings",
            "Service": "conduit.service.service",
            "ServiceStats": "conduit.service.readings",
            "create_router": "conduit.service.assembly",
            "create_service": "conduit.service.assembly",
            "create_service_sync": "conduit.service.assembly",
            "executor_of": "conduit.service.assembly",
            "router_of": "conduit.service.assembly",
            "text_of": "conduit.service.requests",
        },
    )

__all__ = [
    "DEFAULT_DATABASE_URL",
    "AnswerInParts",
    "Health",
    "Service",
    "ServiceStats",
    "create_router",
    "create_service",
    "create_service_sync",
    "executor_of",
    "router_of",
    "text_of",
]
