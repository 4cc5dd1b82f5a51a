"""Nobody rates anything: failures, second tries and copied answers tell which model is better."""

import asyncio

from conduit import ModelArm, ProviderError
from conduit.core.models import Query
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service


def answer(model: str, prompt: str) -> str:
    """Let one of two equal models be down."""
    if model == "acme:broken":
        raise ProviderError("acme:broken failed on its side", model=model, kind="server_error")
    return f"An answer to {prompt}"


async def main() -> None:
    """Complete forty prompts; each one is answered."""
    router = Router([ModelArm("acme:broken"), ModelArm("acme:works")], seed=1)
    async with Service(router, FunctionExecutor(answer)) as service:
        for i in range(40):
            await service.complete(f"question {i}")
        await service.flush()
        decision = await router.route(Query(text="one more"))
        print(
            (await service.get_stats()).answered, "of 40 answered; next:", decision.selected_model
        )
        # A user asks twice, then copies the second answer.
        await service.complete("How do I undo a git commit?", user_id="ada")
        await service.flush()
        again = await service.complete("how can i revert my last git commit", user_id="ada")
        await service.collector.on_copy(again)
        await service.flush()
        signals = (await service.get_stats()).signals
        print("second tries:", signals.seen.get("retry", 0), "copied:", signals.seen["copy"])


asyncio.run(main())

# 40 of 40 answered; next: acme:works
# second tries: 1 copied: 1
