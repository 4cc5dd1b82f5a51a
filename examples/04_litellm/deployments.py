"""The deployments of the examples: real ones where a key is set, simulated ones otherwise."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm is imported

from conduit.testing.local_provider import LocalProvider, SimulatedModel

logging.getLogger("LiteLLM").setLevel(logging.ERROR)

SIMULATED = (
    SimulatedModel("gpt-4o-mini", 0.15, 0.60, {"units": 0.95, "dates": 0.35, "*": 0.6}),
    SimulatedModel("gpt-4o", 2.50, 10.0, {"units": 0.5, "*": 0.95}),
)
NAMES = ("gpt-4o-mini", "gpt-4o")


@contextmanager
def deployments(group: str = "gpt") -> Iterator[tuple[list[dict[str, Any]], LocalProvider | None]]:
    """Give a model list whose entries share one name, and the simulation if there is one."""
    if os.environ.get("OPENAI_API_KEY"):
        yield [_entry(group, name, {}) for name in NAMES], None
        return
    print("No OPENAI_API_KEY: simulated models on this machine answer, at no cost.")
    with LocalProvider(SIMULATED).serve_in_thread() as provider:
        params = {"api_base": provider.base_url, "api_key": "local"}
        yield [_entry(group, name, params) for name in NAMES], provider


def _entry(group: str, name: str, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_name": group,
        "litellm_params": {"model": f"openai/{name}", **params},
        "model_info": {"id": name},
    }
