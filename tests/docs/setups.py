"""What a block of the docs takes as given, by the name in the comment before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conduit.testing import LocalProvider


@contextmanager
def litellm_group() -> Iterator[dict[str, Any]]:
    """Give `model_list`: simulated deployments that share the name `gpt`."""
    with LocalProvider().serve_in_thread() as provider:
        deployments = [
            {
                "model_name": "gpt",
                "litellm_params": {
                    "model": f"openai/{model.name}",
                    "api_base": provider.base_url,
                    "api_key": "local",
                },
                "model_info": {"id": model.name},
            }
            for model in provider.models
        ]
        yield {"model_list": deployments}
