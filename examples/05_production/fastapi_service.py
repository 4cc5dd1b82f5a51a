"""A small web service: POST /complete answers, POST /feedback rates, GET /health tells the truth.

Serve it with `uvicorn --factory fastapi_service:create_app`; run as a script it asks itself once.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from pydantic import BaseModel

from conduit.service import Service, create_service


class Prompt(BaseModel):
    """What is asked."""

    text: str
    user_id: str | None = None


class Rating(BaseModel):
    """What somebody thinks of an answer."""

    response_id: str
    quality_score: float


def create_app(**options: object) -> FastAPI:
    """Return the application; the service lives as long as it does."""
    services: list[Service] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with await create_service(**options) as service:  # type: ignore[arg-type]
            services[:] = [service]
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/complete")
    async def complete(prompt: Prompt) -> dict[str, str]:
        result = await services[0].complete(prompt.text, user_id=prompt.user_id)
        return {"id": result.id, "model": result.model, "answer": str(result.data)}

    @app.post("/feedback")
    async def feedback(rating: Rating) -> dict[str, str]:
        ack = await services[0].submit_feedback(
            rating.response_id, quality_score=rating.quality_score
        )
        return {"status": ack.status}

    @app.get("/health")
    async def health(response: Response) -> dict[str, object]:
        found = await services[0].health()
        response.status_code = 200 if found.ok else 503
        return {"ok": found.ok, "database": found.store.ok, "log_lag": found.store.log_lag}

    return app


if __name__ == "__main__":
    from fastapi.testclient import TestClient
    from pool import pool

    with (
        pool() as models,
        TestClient(create_app(models=models, database_url="sqlite:///web.db")) as client,
    ):
        answer = client.post("/complete", json={"text": "What is 3 + 4?"}).json()
        print(answer["model"], "answered:", answer["answer"])
        rating = {"response_id": answer["id"], "quality_score": 0.9}
        print(client.post("/feedback", json=rating).json())
        print(client.get("/health").json())

# no provider key is set: simulated models on this machine answer, at no cost
# sim-… answered: 7
# {'status': 'stored'}
# {'ok': True, 'database': True, 'log_lag': 0}
