"""Models of several providers under one name, two deployments of one model among them."""

import asyncio
from collections import Counter

from deployments import deployments
from litellm import Router

from conduit_litellm import ConduitRoutingStrategy, extract_model_ids

FROM_ELSEWHERE = {
    "claude": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-2.5-flash",
}


async def main() -> None:
    """Show what is known of each deployment before the first call, then route thirty."""
    with deployments() as (model_list, provider):
        entries = [*model_list]
        twin = {**model_list[0], "model_info": {"id": "gpt-4o-mini-eu"}}
        entries.append(twin)  # the same model, in another region
        if provider is None:
            entries += [
                {"model_name": "gpt", "litellm_params": {"model": m}, "model_info": {"id": i}}
                for i, m in FROM_ELSEWHERE.items()
            ]
        router = Router(model_list=entries)
        print("deployments:", ", ".join(extract_model_ids(entries)))
        async with ConduitRoutingStrategy(preferences="cost", seed=1) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            served: Counter[str] = Counter()
            for k in range(30):
                response = await router.acompletion(
                    model="gpt", messages=[{"role": "user", "content": f"What is {k} + {k}?"}]
                )
                served[response._hidden_params["model_id"]] += 1
            for estimate in strategy.decision(response).estimates.values():
                print(f"{estimate.model:<16} quality {estimate.quality:.2f}")
            print("served:", dict(served))


asyncio.run(main())
