"""Many prompts at once: in order, at most eight at a time, failures as values."""

import asyncio

from pool import pool

from conduit import ConduitError, create_service


async def main() -> None:
    """Complete thirty prompts, and say what they cost."""
    with pool() as models:
        async with await create_service(
            models=models, database_url="sqlite:///batch.db", seed=1
        ) as service:
            prompts = [f"What is {i} + {i}?" for i in range(30)]
            results = await service.complete_batch(prompts, concurrency=8)
            failed = [r for r in results if isinstance(r, ConduitError)]
            print(f"{len(results) - len(failed)} answered, {len(failed)} failed")
            print(f"${(await service.get_stats()).cost_usd:.5f} spent")


asyncio.run(main())

# no provider key is set: simulated models on this machine answer, at no cost
# 30 answered, 0 failed
# $0.00178 spent
