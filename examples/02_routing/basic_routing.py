"""What a decision says: the model, how sure, why, what it looked at, and what else was possible."""

import asyncio

from conduit import Query, Router

TEXTS = [
    "What is the capital of Norway?",
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

# What is the capital of Norway?
#   …, confidence 0.29
#   domain general, complexity 0.64
#   openai:gpt-6-luna: quality 0.78, p 0.27
#   google:gemini-3.5-flash-lite: quality 0.79, p 0.56
#   …
