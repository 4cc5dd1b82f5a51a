"""What a decision says: the model, how sure, why, what it looked at, and what else was possible."""

import asyncio

from conduit import Query, Router

TEXTS = [
    "What is the capital of France?",
    "Prove that the square root of 2 is irrational.",
    "Write a Python function that merges two sorted lists.",
]


async def main() -> None:
    """Route three queries of different kinds."""
    async with Router(seed=1) as router:
        for text in TEXTS:
            decision = await router.route(Query(text=text))
            features = decision.features
            print(text)
            print(f"  {decision.selected_model}, confidence {decision.confidence:.2f}")
            print(f"  domain {features.domain}, complexity {features.complexity_score:.2f}")
            for model, estimate in decision.estimates.items():
                print(f"  {model}: quality {estimate.quality:.2f}, p {estimate.propensity:.2f}")


asyncio.run(main())

# Three decisions, each with domain, complexity and what was expected of every candidate.
