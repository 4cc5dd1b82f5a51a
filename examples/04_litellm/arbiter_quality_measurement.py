"""Ratings without people: a judge scores a sample of the answers, after they were returned."""

import asyncio

from deployments import SIMULATED, deployments
from litellm import Router

from conduit.testing.local_provider import LocalProvider, provider_questions
from conduit_litellm import ConduitRoutingStrategy


async def main() -> None:
    """Let an evaluator score every answer, and show what the strategy made of its scores."""
    with deployments() as (model_list, provider):
        grader = provider or LocalProvider(SIMULATED)

        def evaluator(prompt: str, answer: str) -> float:
            """Score an answer; a judge model or ArbiterEvaluator takes this place."""
            return float(grader.grade(prompt, answer))

        router = Router(model_list=model_list)
        async with ConduitRoutingStrategy(
            evaluator=evaluator, preferences="quality", seed=1
        ) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for question in provider_questions(("units", "dates"), n=120):
                await router.acompletion(
                    model="gpt", messages=[{"role": "user", "content": question.prompt}]
                )
            await asyncio.sleep(0.2)  # LiteLLM reports calls after it has returned them
            print("scores of the judge:", strategy.stats().ratings)
            print("served:", dict(strategy.stats().credited))


asyncio.run(main())
