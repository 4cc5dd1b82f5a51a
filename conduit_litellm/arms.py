"""What is known of a deployment before its first call: its model's prior and its prices."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import litellm

from conduit.catalogue.models import canonical_id, complete_arm
from conduit.core.models import ModelArm
from conduit_litellm.utils import Deployment, deployment_id

# A deployment's address is LiteLLM's business. Any address here says that the deployment's own id
# is no name of a model, so that nobody looks for a list price under it.
ELSEWHERE = "litellm"


def arm_of(deployment: Deployment, today: date) -> ModelArm:
    """Return a deployment as something to choose: its id, and what is known of its model.

    Prices: those in `model_info` or `litellm_params`, else the catalogue's, else LiteLLM's own map.
    Whether a prompt fits a model's window is asked by LiteLLM's pre-call checks, not here.
    """
    info = deployment.get("model_info") or {}
    known = complete_arm(ModelArm(model_of(deployment)), today)
    dollars = _prices(deployment, known)
    return ModelArm(
        str(deployment_id(deployment)),
        input_usd_per_mtok=dollars[0],
        output_usd_per_mtok=dollars[1],
        quality=_number(info, "conduit_quality", known.quality),
        latency_s=known.latency_s,
        output_tokens=known.output_tokens,
        base_url=ELSEWHERE,
    )


def model_of(deployment: Deployment) -> str:
    """Return the model behind a deployment; the same for every deployment of that model."""
    info, params = deployment.get("model_info") or {}, deployment["litellm_params"]
    name = str(info.get("base_model") or params.get("base_model") or params["model"])
    provider = params.get("custom_llm_provider")
    return canonical_id(f"{provider}/{name}" if provider and "/" not in name else name)


def _prices(deployment: Deployment, known: ModelArm) -> tuple[float | None, float | None]:
    own = deployment.get("model_info") or {}, deployment["litellm_params"]
    listed = litellm.model_cost.get(str(deployment["litellm_params"]["model"]), {})
    for place in own:
        pair = _pair(place)
        if pair is not None:
            return pair
    if known.priced:
        return known.input_usd_per_mtok, known.output_usd_per_mtok
    return _pair(listed) or (None, None)


def _pair(place: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return dollars per million input and output tokens, or None unless both are given."""
    prices = [_number(place, f"{side}_cost_per_token", None) for side in ("input", "output")]
    if prices[0] is None or prices[1] is None:
        return None
    return prices[0] * 1e6, prices[1] * 1e6


def _number(place: Mapping[str, Any], name: str, otherwise: float | None) -> float | None:
    value = place.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else otherwise
