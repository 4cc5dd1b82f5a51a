"""One group of two deployments, and a strategy that chooses between them."""

import asyncio

from deployments import deployments
from litellm import Router

from conduit_litellm import ConduitRoutingStrategy


async def main() -> None:
    """Ask three questions, rate one answer, and show why its deployment was chosen."""
    with deployments() as (model_list, _):
        router = Router(model_list=model_list)
        async with ConduitRoutingStrategy() as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for text in ("What is 2+2?", "Name a prime above 10.", "How many inches in 3 feet?"):
                response = await router.acompletion(
                    model="gpt", messages=[{"role": "user", "content": text}]
                )
                print(f"{text:<28} served by {response._hidden_params['model_id']}")
            strategy.record_feedback(response, quality_score=0.9)
            print(strategy.decision(response).reasoning)


asyncio.run(main())
