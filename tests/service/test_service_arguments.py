"""What a service is made of is refused by name where it is of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import ConfigurationError
from conduit.engines.budget import Budget
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service


@pytest.mark.parametrize("budgets", [Budget(1.0), 5, [5.0], [Budget(1.0), None], "1.0", None])
async def test_budgets_are_a_list_of_budgets(tmp_path: Path, budgets: Any) -> None:
    """One budget alone is none, and neither is a number; the refusal shows how to write it."""
    executor = FunctionExecutor(lambda model, prompt: "An answer.")
    told = r"budgets must be a list, as in budgets=\[Budget\(5\.0\)\]"
    with pytest.raises(ConfigurationError, match=told) as refused:
        Service(Router(["a"], environ={}), executor, budgets=budgets)
    assert refused.value.field == "budgets"
    path = tmp_path / "conduit.db"
    with pytest.raises(ConfigurationError, match=told):
        await create_service(
            models=["a"], executor=executor, budgets=budgets, database_url=f"sqlite:///{path}"
        )
    assert not path.exists()
