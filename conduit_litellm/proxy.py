"""The strategy inside LiteLLM's proxy, loaded from its `config.yaml` as a callback."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from conduit_litellm.feedback import ConduitFeedbackLogger
from conduit_litellm.strategy import ConduitRoutingStrategy

log = logging.getLogger("conduit_litellm")

AGAIN_AFTER_S = 30.0  # a set-up that failed; to wait for a database that is away takes a while


class ProxyHandler(ConduitFeedbackLogger):
    """Sets a strategy up on the proxy's router with the first request, and after each reload.

    The proxy reads its callbacks before it makes its router, so it cannot be done any earlier. But
    who is told of a request is settled before that, so the handler itself is told of the first one.
    """

    def __init__(self, strategy: ConduitRoutingStrategy) -> None:
        """Take the strategy that is to choose."""
        super().__init__(strategy)
        self.strategy = strategy
        self.not_before = 0.0  # by the monotonic clock: when to set up, or to try again

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Make sure that the router which is about to be asked asks the strategy.

        Where that fails, say because a database is away, LiteLLM chooses until it succeeds.
        """
        from litellm.proxy import proxy_server

        router = proxy_server.llm_router
        if (
            router is None
            or self.strategy.chooses_for(router)
            or time.monotonic() < self.not_before
        ):
            return
        try:
            # In a thread, since a database is opened there, while other requests go on.
            await asyncio.to_thread(ConduitRoutingStrategy.setup_strategy, router, self.strategy)
        except Exception as error:  # noqa: BLE001  no request fails for want of a better choice
            self.not_before = time.monotonic() + AGAIN_AFTER_S
            log.warning("Conduit could not be set up, so LiteLLM chooses: %s", error)
