"""Two replicas on one database learn together: what one is told, the other knows."""

import asyncio
import os
import tempfile

from conduit import Feedback, ModelArm, Query, Router
from conduit.storage.database import open_store

MODELS = [ModelArm("acme:a", quality=0.7), ModelArm("acme:b", quality=0.7)]


async def main() -> None:
    """Teach one replica and ask the other."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        url = f"sqlite:///{tempfile.mkdtemp()}/conduit.db"
        print("DATABASE_URL is not set: with it this would be PostgreSQL; using an SQLite file")
    first_store, second_store = await open_store(url), await open_store(url)
    async with (
        Router(MODELS, store=first_store, name="two-replicas") as first,
        Router(MODELS, store=second_store, name="two-replicas") as second,
    ):
        for i in range(30):
            decision = await first.route(Query(text=f"question {i}"))
            await first.feedback(decision, Feedback(quality_score=1.0), model="acme:b")
        await second.sync()
        print("the second replica would choose", (await second.route("question")).selected_model)
    await first_store.close()
    await second_store.close()


asyncio.run(main())

# the second replica would choose acme:b
