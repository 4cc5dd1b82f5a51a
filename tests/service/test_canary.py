"""A provider's key stays out of everything that a service shows, whatever goes wrong."""

from __future__ import annotations

import logging
import pickle
import sqlite3
import traceback
from pathlib import Path
from typing import Any

import pytest

import conduit
from conduit.core.errors import ConduitError
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.budget import Budget
from conduit.engines.executor import FunctionExecutor
from conduit.feedback import FeedbackPayload
from conduit.service import Service, create_service
from conduit.storage import sqlite
from conduit.testing import Fault, FaultKind, LocalProvider, SimulatedModel

# Newer releases of PydanticAI warn of a provider that counts a negative number of tokens.
pytestmark = pytest.mark.filterwarnings("ignore:Failed to extract usage")

KEY = "sk-canary-0123456789abcdef"
PASSWORD = "hunter2-canary"
COMMENT = "canary-comment-5b1f"


def shown(value: Any) -> str:
    """Return what a value can be made to say, and what hangs on it."""
    said = [repr(value), str(value)]
    if isinstance(value, BaseException):
        said += traceback.format_exception(value)
    for name in getattr(value, "__dict__", ()):
        said.append(repr(getattr(value, name)))
    for name in getattr(type(value), "__slots__", ()):
        said.append(repr(getattr(value, name, None)))
    return "".join(said)


async def asked(service: Service, streamed: bool, **options: Any) -> list[Any]:
    """Return what one request gives: a result with all its parts, or the error."""
    try:
        if not streamed:
            result = await service.complete("How much is 872 * 54?", **options)
        else:
            async with service.stream("How much is 872 * 54?", **options) as stream:
                async for _piece in stream:
                    pass
                result = stream.result
    except ConduitError as error:
        return [error, getattr(error, "attempts", None)]
    assert isinstance(result, RoutingResult)
    return [result, result.response, result.decision, result.decision.receipt, result.messages]


@pytest.mark.parametrize("streamed", [False, True])
async def test_nothing_shows_a_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    streamed: bool,
) -> None:
    """Every misbehaviour, alone and with fallback, with DEBUG logging, and the file kept of it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    path = tmp_path / "conduit.db"
    async with LocalProvider([SimulatedModel("bad"), SimulatedModel("good")], api_key=KEY) as p:
        prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
        arms = [ModelArm(f"openai:{m}", base_url=p.base_url, **prices) for m in ("bad", "good")]
        async with await create_service(
            models=arms,
            database_url=f"sqlite:///{path}",
            seed=1,
            store_text=True,
            budgets=[Budget(5.0)],
        ) as service:
            service.timeout_s = 0.4
            for kind in FaultKind:
                for model in ("bad", "good"):
                    p.set_fault(model, Fault(kind, delay_s=0.01))
                for fallback in (True, False):
                    given = await asked(service, streamed, fallback=fallback)
                    said += map(shown, given)
            await service.flush()
            parts = (
                service, service.router, service.router.learner, service.executor,
                service.collector, service.router.store, service.health_of_models,
                service.get_models(), await service.get_stats(), await service.health(),
            )  # fmt: skip
            said += map(shown, parts)
        assert {row.has_authorization for row in p.requests} == {True}
    assert len(said) > 2 * len(FaultKind)
    assert not [text for text in said if KEY in text]
    assert KEY.encode() not in path.read_bytes()
    assert not [r for r in caplog.records if KEY in r.getMessage() + repr(r.args)]


def test_settings_show_no_secret() -> None:
    """The password of a database, the secret of receipts and Redis' stay out of reprs."""
    settings = conduit.Settings(
        database_url=f"postgresql://user:{PASSWORD}@localhost/db",
        redis_url=f"redis://:{PASSWORD}@localhost:6379/0",
        secret=PASSWORD,
    )
    assert PASSWORD not in repr(settings) + str(settings)


def test_errors_survive_a_copy_without_a_key() -> None:
    """What a worker sends to its parent holds what the error held, and no more."""
    error = conduit.ProviderError("m failed", model="m", kind="auth", status=401)
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.kind, str(again)) == (401, "auth", "m failed")


def files_with(directory: Path, said: str) -> list[str]:
    """Return the names of the files below a directory that hold a text."""
    return [
        path.name
        for path in directory.rglob("*")
        if path.is_file() and said.encode() in path.read_bytes()
    ]


async def test_a_comment_is_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What users write beside a rating enters no table, journal, snapshot, log or repr."""
    caplog.set_level(logging.DEBUG)
    service = await create_service(
        models=[ModelArm("acme:a"), ModelArm("acme:b")],
        database_url=f"sqlite:///{tmp_path}/conduit.db",
        journal_path=str(tmp_path / "journal"),
        store_text=True,
        executor=FunctionExecutor(lambda model, prompt: f"an answer to {prompt}"),
    )
    first, second = [await service.complete(f"prompt-canary {k}", user_id="u") for k in range(2)]
    given = conduit.Feedback(user_rating=4, comments=COMMENT, feedback_id="f-canary", user_id="u")
    body = {"response_id": second.id, "user_rating": 1, "comments": COMMENT}
    payload = FeedbackPayload.model_validate(body)
    acks = [await service.router.feedback(first.decision, given)]
    acks.append(await service.submit_feedback(first.id, met_expectations=True, comments=COMMENT))
    other = sqlite3.connect(tmp_path / "conduit.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as where the database is away
    with monkeypatch.context() as impatient:
        impatient.setattr(sqlite, "WAIT_S", 1.0)
        acks.append(await service.submit_feedback(payload, user_id="u"))
    assert acks[-1].status == "journaled"
    assert files_with(tmp_path / "journal", second.decision.id)
    assert files_with(tmp_path, COMMENT) == []
    other.execute("COMMIT")
    other.close()
    state = [*acks, await service.get_stats(), await service.health()]
    snapshot = service.router.learner.snapshot().to_bytes()
    await service.close()
    assert files_with(tmp_path, "prompt-canary")  # this is how it would be found
    assert files_with(tmp_path, "f-canary")
    assert files_with(tmp_path, COMMENT) == []
    assert COMMENT.encode() not in snapshot
    assert COMMENT not in caplog.text + "".join(map(shown, state))
    assert COMMENT not in repr(given) + repr(payload)
