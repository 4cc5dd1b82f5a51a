"""A small web service: POST /complete answers, POST /feedback rates; serve it with uvicorn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
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

    return app


if __name__ == "__main__":
    import tempfile

    from fastapi.testclient import TestClient

    from conduit import ModelArm
    from conduit.testing import LocalProvider

    print("no provider is asked: the models are simulated on this machine")
    with LocalProvider().serve_in_thread() as provider:
        arms = [ModelArm(m.name, base_url=provider.base_url) for m in provider.models]
        url = f"sqlite:///{tempfile.mkdtemp()}/conduit.db"
        with TestClient(create_app(models=arms, database_url=url)) as client:
            answer = client.post("/complete", json={"text": "What is 3 + 4?"}).json()
            print(answer["model"], "answered")
            rating = {"response_id": answer["id"], "quality_score": 0.9}
            print(client.post("/feedback", json=rating).json())

# the model that answered, and {'status': 'stored'}
