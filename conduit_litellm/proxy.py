"""The strategy inside LiteLLM's proxy, loaded from its `config.yaml` as a callback."""

from __future__ import annotations

from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from conduit_litellm.strategy import ConduitRoutingStrategy


class ProxyHandler(CustomLogger):
    """Sets a strategy up on the proxy's router with the first request, and after each reload.

    The proxy reads its callbacks before it makes its router, so it cannot be done any earlier.
    """

    def __init__(self, strategy: ConduitRoutingStrategy) -> None:
        """Take the strategy that is to choose."""
        super().__init__()
        self.strategy = strategy

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Make sure that the router which is about to be asked asks the strategy."""
        from litellm.proxy import proxy_server

        if proxy_server.llm_router is not None:
            ConduitRoutingStrategy.setup_strategy(proxy_server.llm_router, self.strategy)
