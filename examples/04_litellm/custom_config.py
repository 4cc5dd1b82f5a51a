"""Every option at work: policy, preferences, a database, priors, a task, a forgetting window."""

import asyncio
import tempfile

from deployments import deployments
from litellm import Router

from conduit import Preferences
from conduit_litellm import ConduitRoutingStrategy


async def main() -> None:
    """Route with options, restart, and see that what was learned is still there."""
    with deployments() as (model_list, _), tempfile.TemporaryDirectory() as folder:
        model_list[0]["model_info"]["conduit_quality"] = 0.6  # what you know of it beforehand
        for run in ("first", "second"):
            router = Router(model_list=model_list, num_retries=0)
            strategy = ConduitRoutingStrategy(
                bandit_algorithm="linucb",
                preferences=Preferences(quality=0.6, cost=0.3, latency=0.1),
                database_url=f"sqlite+aiosqlite:///{folder}/conduit.db",
                window_size=500,
                lambda_reg=20.0,
                cache_enabled=True,
            )
            async with strategy:
                ConduitRoutingStrategy.setup_strategy(router, strategy)
                for k in range(5):
                    response = await router.acompletion(
                        model="gpt",
                        messages=[{"role": "user", "content": f"Summarise item {k}."}],
                        metadata={"conduit_task": "summarise", "conduit_preferences": "cost"},
                    )
                    await strategy.arecord_feedback(response, user_rating=4)
                print(f"{run} run:", strategy.stats())


asyncio.run(main())
