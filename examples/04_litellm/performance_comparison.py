"""Conduit beside LiteLLM's own strategies on one replayed workload: quality, dollars, CPU time."""

import asyncio
import time
from typing import Any

from deployments import SIMULATED  # before litellm, which fetches a price list unless told not to
from litellm import BadRequestError, Router

from conduit.testing.local_provider import LocalProvider, provider_questions
from conduit_litellm import ConduitRoutingStrategy

WORKLOAD = provider_questions(("units", "dates"), n=200, seed=3)
OWN = ("simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing")


def model_list(provider: LocalProvider, *, shared_name: bool) -> list[dict[str, Any]]:
    """Return the deployments under one name, or each under its own."""
    return [
        {
            "model_name": "gpt" if shared_name else model.name,
            "litellm_params": {
                "model": f"openai/{model.name}",
                "api_base": provider.base_url,
                "api_key": "local",
                "input_cost_per_token": model.input_usd_per_mtok / 1e6,
                "output_cost_per_token": model.output_usd_per_mtok / 1e6,
            },
            "model_info": {"id": model.name},
        }
        for model in provider.models
    ]


def adaptive(provider: LocalProvider) -> Router | None:
    """Return LiteLLM's adaptive router over the same models, if this release has one."""
    models = model_list(provider, shared_name=False)
    for entry in models:
        entry["model_info"]["adaptive_router_preferences"] = {"quality_tier": 2, "strengths": []}
    names = [entry["model_name"] for entry in models]
    params = {
        "model": "auto_router/adaptive_router",
        "adaptive_router_default_model": names[0],
        "adaptive_router_config": {
            "available_models": names,
            "weights": {"quality": 0.7, "cost": 0.3},
        },
    }
    try:
        router = Router(
            model_list=[*models, {"model_name": "gpt", "litellm_params": params}], num_retries=0
        )
    except (ValueError, TypeError, BadRequestError):
        return None
    if hasattr(router, "registry"):  # since 1.109
        return router if router.registry().plugins("adaptive") else None
    return router if getattr(router, "adaptive_routers", None) else None


async def replay(
    name: str, router: Router, provider: LocalProvider, strategy: ConduitRoutingStrategy | None
) -> None:
    """Send the workload through a router, and print what came of it."""
    good, usd, began = 0, provider.spent_usd, time.process_time()
    half = len(WORKLOAD) // 2
    for k, question in enumerate(WORKLOAD):
        response = await router.acompletion(
            model="gpt", messages=[{"role": "user", "content": question.prompt}]
        )
        right = provider.grade(question.prompt, response.choices[0].message.content)
        good += right and k >= half
        if strategy is not None:
            strategy.record_feedback(response, quality_score=float(right))
    cpu_ms = (time.process_time() - began) / len(WORKLOAD) * 1e3
    spent = (provider.spent_usd - usd) * 1e6
    print(f"{name:<24} right {good / half:6.1%}   ${spent:7.0f} per million   {cpu_ms:5.1f} ms CPU")


async def main() -> None:
    """Replay the workload through every strategy; the second half counts."""
    print("Simulated models on this machine answer, so that every strategy sees the same.")
    with LocalProvider(SIMULATED).serve_in_thread() as provider:
        for name in OWN:
            router = Router(
                model_list=model_list(provider, shared_name=True),
                routing_strategy=name,  # type: ignore[arg-type]
                num_retries=0,
            )
            await replay(name, router, provider, None)
        own = adaptive(provider)
        if own is None:
            print("adaptive                 not in this release of LiteLLM")
        else:
            await replay("adaptive", own, provider, None)
        router = Router(model_list=model_list(provider, shared_name=True), num_retries=0)
        async with ConduitRoutingStrategy(preferences="quality", seed=1) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            await replay("conduit, rated", router, provider, strategy)


asyncio.run(main())
