"""Two topics, each with another best deployment: watch the shares move as ratings come in."""

import asyncio

from deployments import SIMULATED, deployments
from litellm import Router

from conduit.testing.local_provider import LocalProvider, provider_questions
from conduit_litellm import ConduitRoutingStrategy

TOPICS = {"units": "gpt-4o-mini", "dates": "gpt-4o"}
BLOCK, BLOCKS = 60, 4


async def main() -> None:
    """Ask questions of both topics, rate each answer, and print the shares per block."""
    with deployments() as (model_list, provider):
        grader = provider or LocalProvider(SIMULATED)
        router = Router(model_list=model_list)
        async with ConduitRoutingStrategy(preferences="quality", seed=1) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            questions = provider_questions(tuple(TOPICS), n=BLOCK * BLOCKS)
            for block in range(BLOCKS):
                right = dict.fromkeys(TOPICS, 0)
                for question in questions[block * BLOCK : (block + 1) * BLOCK]:
                    response = await router.acompletion(
                        model="gpt", messages=[{"role": "user", "content": question.prompt}]
                    )
                    answer = response.choices[0].message.content
                    good = float(grader.grade(question.prompt, answer))
                    await strategy.arecord_feedback(response, quality_score=good)
                    best = TOPICS[question.topic]
                    right[question.topic] += response._hidden_params["model_id"] == best
                half = BLOCK // len(TOPICS)
                shares = ", ".join(f"{t}: {n / half:.0%} to {TOPICS[t]}" for t, n in right.items())
                print(f"after {(block + 1) * BLOCK:3d} requests  {shares}")


asyncio.run(main())
