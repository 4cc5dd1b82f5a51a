"""What a route from raw text costs, and what a fresh process costs, beside the peers.

python -m benchmarks.route
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import numpy as np

from benchmarks import results_page
from conduit import ModelArm, Query, Router

MODELS = 5
WARM, TIMED = 200, 1500

FRESH = """
import time, sys, resource
import conduit
imported = time.process_time()
names = "torch sklearn scipy litellm redis sqlalchemy pydantic_ai".split()
heavy = [m for m in names if m in sys.modules]
import asyncio
from conduit import Router, Query
async def main():
    await Router(environ={}).route(Query(text="What is 2+2?"))
asyncio.run(main())
import json
print(json.dumps({"import conduit, CPU s": imported, "first route, CPU s": time.process_time(),
  "RSS MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "heavy modules": heavy}))
"""


def texts(words: int, n: int, seed: int = 0) -> list[str]:
    """Return unique prompts of so many words, drawn from the tokenizer's own words."""
    path = resources.files("conduit.engines.embeddings") / "data" / "vocab.txt"
    known = [w for w in path.read_text().split() if w.isascii() and w.isalpha() and len(w) > 2]
    rng = random.Random(seed)
    return [" ".join(rng.choices(known[:8000], k=words)) + "?" for _ in range(n)]


async def timed(
    route: Callable[[str], Awaitable[object]], words: int, n: int = TIMED
) -> np.ndarray:
    """Return the CPU milliseconds of this thread per call, after warming up."""
    found = texts(words, WARM + n)
    for text in found[:WARM]:
        await route(text)
    spent = np.empty(n)
    for i, text in enumerate(found[WARM:]):
        start = time.thread_time_ns()
        await route(text)
        spent[i] = time.thread_time_ns() - start
    return spent / 1e6


def row(who: str, what: str, words: int, ms: np.ndarray) -> dict[str, Any]:
    """Return one line of the table."""
    return {
        "router": who,
        "does": what,
        "words": words,
        "p50 ms": float(np.percentile(ms, 50)),
        "p99 ms": float(np.percentile(ms, 99)),
    }


async def ours() -> list[dict[str, Any]]:
    """Measure `Router.route` on unique prompts."""
    arms = [
        ModelArm(f"a:m{i}", quality=0.5 + 0.05 * i, input_usd_per_mtok=1.0 + i,
                 output_usd_per_mtok=2.0 + i, output_tokens=100)
        for i in range(MODELS)
    ]  # fmt: skip
    router = Router(arms, seed=0, environ={})

    async def route(text: str) -> object:
        return await router.route(Query(text=text))

    what = "signals, static embedding, domain, complexity, Thompson over 5 models"
    return [row("conduit", what, w, await timed(route, w)) for w in (20, 200)]


async def paretobandit() -> list[dict[str, Any]]:
    """Measure ParetoBandit's route from text, with its own embedder."""
    from pareto_bandit import BanditRouter

    registry = {
        f"m{i}": {"input_cost_per_m": 1.0 + i, "output_cost_per_m": 2.0 + i} for i in range(MODELS)
    }
    router = BanditRouter.create(registry, priors="none")

    async def route(text: str) -> object:
        return router.route(text)

    what = "sentence-transformer embedding, PCA, LinUCB"
    return [row("ParetoBandit", what, w, await timed(route, w, 60)) for w in (20, 200)]


async def semantic_router() -> list[dict[str, Any]]:
    """Measure semantic-router with our embedder (its own ones call a service or a hub)."""
    from semantic_router import Route
    from semantic_router.encoders import DenseEncoder
    from semantic_router.routers import SemanticRouter

    from conduit.engines.embeddings.static import StaticEmbedder

    static = StaticEmbedder()

    class Encoder(DenseEncoder):  # type: ignore[misc]
        name: str = "static"
        score_threshold: float = 0.1
        type: str = "static"

        def __call__(self, docs: list[str]) -> list[list[float]]:
            return [list(map(float, r)) for r in static.embed(docs)]

    routes = [Route(name=f"m{i}", utterances=texts(8, 5, seed=i)) for i in range(MODELS)]
    router = SemanticRouter(encoder=Encoder(), routes=routes, auto_sync="local")

    async def route(text: str) -> object:
        return router(text)

    what = "nearest of 25 utterances; our static embedding, no learning"
    return [row("semantic-router", what, w, await timed(route, w, 300)) for w in (20, 200)]


async def litellm_adaptive() -> list[dict[str, Any]]:
    """Measure LiteLLM's choice of a deployment with its simple shuffle."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm import Router as LiteLLMRouter

    deployments = [
        {"model_name": "g", "litellm_params": {"model": f"openai/m{i}", "api_key": "none",
                                                "mock_response": "x"}}
        for i in range(MODELS)
    ]  # fmt: skip
    router = LiteLLMRouter(model_list=deployments)

    async def route(text: str) -> object:
        return await router.async_get_available_deployment(
            model="g", messages=[{"role": "user", "content": text}], request_kwargs={}
        )

    what = "simple-shuffle among 5 deployments; looks at no text"
    return [row("LiteLLM", what, w, await timed(route, w, 300)) for w in (20, 200)]


PEERS = (paretobandit, semantic_router, litellm_adaptive)


def fresh_process(runs: int = 5) -> dict[str, Any]:
    """Return the median figures of a fresh process that imports and routes once."""
    found = []
    for _ in range(runs):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=env
        )
        found.append(json.loads(done.stdout))
    median = {k: float(np.median([f[k] for f in found])) for k in found[0] if k != "heavy modules"}
    return {"router": "conduit", "does": "fresh process", **median,
            "heavy modules": len(found[0]["heavy modules"])}  # fmt: skip


def main() -> None:
    """Print and keep the figures; a peer that does not install or run is named with its reason."""
    rows = [fresh_process(), *asyncio.run(ours())]
    notes = ["CPU time of the thread, unique prompts, 5 models, OMP_NUM_THREADS=1."]
    for peer in PEERS:
        try:
            rows += asyncio.run(peer())
        except Exception as error:  # noqa: BLE001  a peer's failure is a line of the page
            notes.append(f"{peer.__name__} did not run: {type(error).__name__}: {str(error)[:160]}")
    for line in rows:
        print(line)
    print("\n".join(notes))
    results_page.write("route", rows, title="From text to decision", notes=notes)


if __name__ == "__main__":
    main()
