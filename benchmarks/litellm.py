"""What a decision of ours costs a LiteLLM call, beside LiteLLM's simple shuffle in the same run.

    python -m benchmarks.litellm [--calls 400]

First what the plugin adds to `import litellm`, imported and with its strategy loaded (least of 5);
LiteLLM's own garbage is collected before, or it would be counted as ours. Then two figures, both
CPU time per call: choosing a deployment alone, and a whole `acompletion` that a function of
LiteLLM's own mock answers, callbacks and learning included. The two strategies take turns in
blocks, so that a busy machine troubles both alike. Then one stream of two topics through LiteLLM's
shuffle, its adaptive router and ours, and a thousand odd requests over HTTP.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm is imported
warnings.simplefilter("ignore")

import litellm  # noqa: E402  the environment comes first
from litellm import Router  # noqa: E402
from litellm.integrations.custom_logger import CustomLogger  # noqa: E402

from benchmarks import results_page  # noqa: E402
from benchmarks.windows import quietest  # noqa: E402
from conduit.testing.local_provider import (  # noqa: E402
    LocalProvider,
    SimulatedModel,
    provider_questions,
)
from conduit_litellm import ConduitFeedbackLogger, ConduitRoutingStrategy  # noqa: E402
from tests.litellm.oddities import ODD_INPUTS, ODD_MESSAGES  # noqa: E402

Figure = dict[str, Any]

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano")
ONE_MODEL = ("gpt-4o",) * 5
TOPICS = ("units", "dates")
EXPERTS = tuple(
    SimulatedModel(f"{topic}-expert", 1.0, 1.0, skill={topic: 1.0, "*": 0.0}) for topic in TOPICS
)
BLOCK = 5
IDLE_MS = 0.2  # of CPU within five milliseconds: LiteLLM's reports of the last calls are through
TO_HOLD = {"conduit": "<= 1"}
TEXT = (
    "Which of these three contracts has the longest notice period, and what does it cost to leave?"
)


def router_of(models: Sequence[str]) -> Router:
    """Return a router over deployments of these models that answer at once."""
    listed = [
        {
            "model_name": "g",
            "litellm_params": {"model": f"openai/{m}", "api_key": "k", "mock_response": "Yes."},
            "model_info": {"id": f"d{k}"},
        }
        for k, m in enumerate(models)
    ]
    return Router(model_list=listed, num_retries=0)


def messages(k: int) -> list[dict[str, str]]:
    """Return a question that was not asked before, so that no cache of features helps."""
    return [{"role": "user", "content": f"{TEXT} ({k})"}]


async def choose(router: Router, k: int) -> Any:
    """Choose a deployment."""
    return await router.async_get_available_deployment(
        model="g", messages=messages(k), request_kwargs={}
    )


async def call(router: Router, k: int) -> Any:
    """Make a whole call, and let LiteLLM's callbacks run."""
    response = await router.acompletion(model="g", messages=messages(k))
    await asyncio.sleep(0)
    return response


@dataclass(frozen=True, slots=True)
class Way:
    """A router, and the logger that LiteLLM reports its calls to."""

    router: Router
    logger: ConduitFeedbackLogger | None = None

    async def block_ms(self, step: Callable[[Router, int], Awaitable[Any]], k: int) -> float:
        """Return the CPU milliseconds per call of one block."""
        with listening(self.logger):
            began = time.process_time()
            for n in range(BLOCK):
                await step(self.router, k + n)
            spent = began
            while time.process_time() - spent > IDLE_MS / 1e3:
                spent = time.process_time()
                await asyncio.sleep(0.005)
            return (time.process_time() - began) / BLOCK * 1e3


class Idle(ConduitFeedbackLogger):
    """A logger that does nothing: what LiteLLM's own part of any logger costs."""

    log_success_event = CustomLogger.log_success_event
    async_log_success_event = CustomLogger.async_log_success_event

    def __init__(self) -> None:
        """Tell nobody."""
        CustomLogger.__init__(self)


@contextlib.contextmanager
def listening(logger: ConduitFeedbackLogger | None) -> Iterator[None]:
    """Let LiteLLM report to one logger, or to none."""
    if logger is None:
        yield
        return
    logger.register()
    try:
        yield
    finally:
        logger.unregister()


IMPORT = """
import gc, time, litellm
gc.collect()
began = time.process_time()
import conduit_litellm
imported = time.process_time()
conduit_litellm.ConduitRoutingStrategy
print(imported - began, time.process_time() - began)
"""


def added_by_import_s() -> tuple[float, float]:
    """Return the least CPU seconds until the plugin is imported, and its strategy loaded."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
    imported, loaded = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return min(imported), min(loaded)


async def overhead(calls: int) -> list[Figure]:
    """Return the medians of every way, and of their differences from shuffle block by block."""
    one = router_of(ONE_MODEL)
    figures: list[Figure] = []
    with contextlib.ExitStack() as cleanup:
        ways = {"shuffle": Way(one), "shuffle with an idle logger": Way(one, Idle())}
        strategies = []
        for name, models in (("conduit", MODELS), ("conduit, all of one model", ONE_MODEL)):
            router, strategy = router_of(models), ConduitRoutingStrategy(seed=1)
            cleanup.enter_context(ConduitRoutingStrategy.setup_strategy(router, strategy))
            ours = next(c for c in litellm.callbacks if isinstance(c, ConduitFeedbackLogger))
            ours.unregister()
            ways[name] = Way(router, ours)
            strategies.append(strategy)
        for name, step in (("choose", choose), ("acompletion", call)):
            figures += [figure(f"{name}, {row}", ms, hold) for row, ms, hold in
                        await compared(ways, step, calls)]  # fmt: skip
        for strategy in strategies:
            stats = strategy.stats()
            assert stats.fallbacks == 0
            assert sum(stats.credited.values()) >= calls
    return figures


async def compared(
    ways: Mapping[str, Way], step: Callable[[Router, int], Awaitable[Any]], calls: int
) -> list[tuple[str, float, str | None]]:
    """Return rows of what each way takes, and adds to the first: of the quietest blocks."""
    seen = []
    for k in range(-40, calls, BLOCK):
        block = tuple([await way.block_ms(step, k) for way in ways.values()])
        if k >= 0:
            seen.append(block)
    rows: list[tuple[str, float, str | None]] = []
    first, *_ = columns = list(zip(*quietest(seen), strict=True))
    for label, column in zip(ways, columns, strict=True):
        rows.append((f"{label}, CPU ms p50", statistics.median(column), None))
        if column is not first:
            added = statistics.median(a - b for a, b in zip(column, first, strict=True))
            rows.append((f"{label}, added CPU ms p50", added, TO_HOLD.get(label)))
    return rows


def deployments(provider: LocalProvider, *, one_group: bool) -> list[dict[str, Any]]:
    """Return a deployment of each simulated model, of one group or each of its own."""
    return [
        {
            "model_name": "g" if one_group else model.name,
            "litellm_params": {
                "model": f"openai/{model.name}", "api_base": provider.base_url, "api_key": "k",
                "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6,
            },
            "model_info": {"id": model.name},
        }
        for model in provider.models
    ]  # fmt: skip


def adaptive(provider: LocalProvider) -> Router:
    """Return LiteLLM's adaptive router, with all weight on quality, over the same models."""
    models = deployments(provider, one_group=False)
    for entry in models:
        entry["model_info"]["adaptive_router_preferences"] = {"quality_tier": 2, "strengths": []}
    names = [entry["model_name"] for entry in models]
    params = {
        "model": "auto_router/adaptive_router",
        "adaptive_router_default_model": names[0],
        "adaptive_router_config": {
            "available_models": names,
            "weights": {"quality": 1.0, "cost": 0.0},
        },
    }
    entry = {"model_name": "g", "litellm_params": params}
    return Router(model_list=[*models, entry], num_retries=0)


async def topics() -> list[Figure]:
    """Return the share of right deployments per topic after 300 rated requests, for each way."""
    figures: list[Figure] = []
    with LocalProvider(EXPERTS).serve_in_thread() as provider:
        conduit = ConduitRoutingStrategy(preferences="quality", seed=3)
        ours = Router(model_list=deployments(provider, one_group=True), num_retries=0)
        shuffle = Router(model_list=deployments(provider, one_group=True), num_retries=0)
        with ConduitRoutingStrategy.setup_strategy(ours, conduit):
            for name, router, rated in (
                ("simple-shuffle", shuffle, None),
                ("LiteLLM adaptive", adaptive(provider), None),
                ("conduit", ours, conduit),
            ):
                shares = await right_shares(router, provider, rated)
                hold = ">= 0.8" if rated is not None else None
                figures += [
                    figure(f"two topics, {name}, right on {topic}", share, hold)
                    for topic, share in shares.items()
                ]
    return figures


async def right_shares(
    router: Router, provider: LocalProvider, rated: ConduitRoutingStrategy | None
) -> dict[str, float]:
    """Return how often the last 100 of 400 requests went to the expert of their topic."""
    right: dict[str, list[bool]] = {topic: [] for topic in TOPICS}
    for k, question in enumerate(provider_questions(TOPICS, n=400, seed=1)):
        response = await router.acompletion(
            model="g", messages=[{"role": "user", "content": question.prompt}]
        )
        good = provider.grade(question.prompt, response.choices[0].message.content)
        if rated is not None:
            rated.record_feedback(response, quality_score=float(good))
        if k >= 300:
            served = provider.requests[-1].model
            right[question.topic].append(served == f"{question.topic}-expert")
    return {topic: sum(r) / len(r) for topic, r in right.items()}


async def odd() -> list[Figure]:
    """Return how many of 1,000 odd requests were served over HTTP, each kind as often."""
    served = 0
    with LocalProvider(EXPERTS).serve_in_thread() as provider:
        models = deployments(provider, one_group=True)
        for entry in deployments(provider, one_group=True):
            name = "text-embedding-3-small"
            params = {**entry["litellm_params"], "model": f"openai/{name}"}
            identity = {"id": "e-" + entry["model_info"]["id"]}
            models.append({"model_name": "e", "litellm_params": params, "model_info": identity})
        router = Router(model_list=models, num_retries=0)
        with ConduitRoutingStrategy.setup_strategy(router) as strategy:
            kinds = [*ODD_MESSAGES, *ODD_INPUTS]
            for k in range(1000):
                asked = kinds[k % len(kinds)]
                if k % len(kinds) < len(ODD_MESSAGES):
                    answer = await router.acompletion(model="g", messages=asked)
                    served += bool(answer.choices)
                else:
                    served += bool((await router.aembedding(model="e", input=asked)).data)
            fallbacks = strategy.stats().fallbacks
    return [
        figure("odd requests served of 1,000", served, "1000"),
        figure("of them by LiteLLM's shuffle instead of a decision", fallbacks, "0"),
    ]


def figure(name: str, measured: float, hold: str | None = None) -> Figure:
    """Return one row of the page."""
    print(f"{name:<52} {measured:.4g}" + (f"   (to hold: {hold})" if hold else ""), flush=True)
    return {"figure": name, "measured": measured, "to hold": hold}


async def main(calls: int) -> None:
    """Measure everything, print it, and keep it."""
    imported, loaded = added_by_import_s()
    rows = [
        figure("import, added CPU s", imported, "<= 0.3"),
        figure("import and the strategy, added CPU s", loaded),
    ]
    rows += await overhead(calls) + await topics() + await odd()
    results_page.write("litellm", rows, title="The LiteLLM plugin", notes=NOTES)


NOTES = [
    "overhead: choosing among five deployments, and whole calls that LiteLLM's mock answers; both "
    "strategies take turns in one process, in blocks of five calls; the quietest quarter of the "
    "blocks counts. An idle logger is one that does nothing: LiteLLM's own part of any logger.",
    "two topics: two deployments, each right on one topic and wrong on the other; the last 100 of "
    "400 requests count. Conduit hears of each answer whether it was right; LiteLLM's adaptive "
    "router takes no ratings and learns from what it sees in conversations.",
    "odd requests: empty text, no content, system only, an image, 200 KB, results of tools last, "
    "empty parts, lists of texts and of tokens to embed; a simulated provider answers over HTTP.",
]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    asyncio.run(main(parser.parse_args().calls))
