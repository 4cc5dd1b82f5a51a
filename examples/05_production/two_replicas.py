"""Two replicas on one database learn together: what one is told, the other knows."""

import asyncio
import os

from conduit import Feedback, ModelArm, Query, Router
from conduit.storage.database import open_store

MODELS = [ModelArm("acme:a", quality=0.7), ModelArm("acme:b", quality=0.7)]


async def main() -> None:
    """Teach one replica and ask the other."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        url = "sqlite:///replicas.db"
        print("DATABASE_URL is not set: with it this would be PostgreSQL; using an SQLite file")
    async with (
        await open_store(url) as first_store,
        await open_store(url) as second_store,
        Router(MODELS, store=first_store, name="two-replicas", seed=1) as first,
        Router(MODELS, store=second_store, name="two-replicas", seed=2) as second,
    ):
        for i in range(30):
            decision = await first.route(Query(text=f"question {i}"))
            await first.feedback(decision, Feedback(quality_score=1.0), model="acme:b")
        await second.sync()
        print("the second replica would choose", (await second.route("question")).selected_model)


asyncio.run(main())

# DATABASE_URL is not set: with it this would be PostgreSQL; using an SQLite file
# the second replica would choose acme:b
