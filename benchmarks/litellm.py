"""What a decision of ours costs a LiteLLM call, beside LiteLLM's simple shuffle in the same run.

    python -m benchmarks.litellm [--calls 400]

First what the plugin adds to `import litellm`, imported and with its strategy loaded (least of 5);
LiteLLM's own garbage is collected before, or it would be counted as ours. Then two figures, both
CPU time per call: choosing a deployment alone, and a whole `acompletion` that a
function of LiteLLM's own mock answers, callbacks and learning included. The two strategies take
turns in blocks, so that a busy machine troubles both alike.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm is imported
warnings.simplefilter("ignore")

from litellm import Router  # noqa: E402  the environment comes first

from conduit_litellm import ConduitRoutingStrategy  # noqa: E402

DEPLOYMENTS = 5
BLOCK = 20
TEXT = (
    "Which of these three contracts has the longest notice period, and what does it cost to leave?"
)


def router_of() -> Router:
    """Return a router over five deployments that answer at once."""
    models = [
        {
            "model_name": "g",
            "litellm_params": {"model": "openai/gpt-4o", "api_key": "k", "mock_response": "Yes."},
            "model_info": {"id": f"d{k}"},
        }
        for k in range(DEPLOYMENTS)
    ]
    return Router(model_list=models, num_retries=0)


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


async def block_ms(step: Callable[[Router, int], Awaitable[Any]], router: Router, k: int) -> float:
    """Return the CPU milliseconds per call of one block."""
    began = time.process_time()
    for n in range(BLOCK):
        await step(router, k + n)
    await asyncio.sleep(0.01)  # reports of the last calls
    return (time.process_time() - began) / BLOCK * 1e3


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


async def main(calls: int) -> None:
    """Print the medians of both strategies and their difference."""
    plain, ours = router_of(), router_of()
    with ConduitRoutingStrategy.setup_strategy(ours, ConduitRoutingStrategy(seed=1)) as strategy:
        for name, step in (("choose", choose), ("acompletion", call)):
            seen: dict[str, list[float]] = {"shuffle": [], "conduit": []}
            for k in range(-BLOCK * 2, calls, BLOCK):
                for label, router in (("shuffle", plain), ("conduit", ours)):
                    ms = await block_ms(step, router, k)
                    if k >= 0:
                        seen[label].append(ms)
            added = statistics.median(b - a for a, b in zip(*seen.values(), strict=True))
            p50 = {label: statistics.median(values) for label, values in seen.items()}
            print(
                f"{name:<12} simple-shuffle {p50['shuffle']:.3f} ms   conduit "
                f"{p50['conduit']:.3f} ms   added p50 {added:.3f} ms CPU per call"
            )
        print(strategy.stats())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    imported, loaded = added_by_import_s()
    print(f"import       added {imported:.3f} s CPU to LiteLLM's own, loaded {loaded:.3f} s")
    asyncio.run(main(options.calls))
