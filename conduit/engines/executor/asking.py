"""What can be asked at all: what cannot is refused before any model is, so that none is blamed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from conduit.catalogue.models import provider_key_names
from conduit.core.errors import InvalidInput, ProviderError, whole
from conduit.core.models import ModelArm
from conduit.core.queries import without_surrogates
from conduit.engines.executor.failures import ForeignError, described

PARTS = "text, images and files"
_NO_PARTS = (NoneType, bool, int, float, complex, bytes, bytearray, list, tuple, set)


def prompt_of(prompt: Any) -> Any:
    """Return a prompt whose texts can be sent, or raise InvalidInput for what is none."""
    if prompt is None or isinstance(prompt, str):
        return prompt and without_surrogates(prompt)
    parts = several(prompt, "prompt", f"text, or a list of {PARTS}")
    for part in parts:
        if isinstance(part, _NO_PARTS):
            raise no_part(part)
    texts = [without_surrogates(part) if isinstance(part, str) else part for part in parts]
    changed = any(new is not old for new, old in zip(texts, parts, strict=True))
    return texts if changed else parts


def no_part(part: object) -> InvalidInput:
    """Return the error of a prompt with something in it that no model takes."""
    return InvalidInput(
        f"a prompt cannot hold a {type(part).__name__}", field="prompt", expected=PARTS
    )


def several(values: Any, field: str, expected: str) -> Sequence[Any]:
    """Return the values of a list; None is an empty one, a text is none."""
    if values is None:
        return ()
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray):
        return values
    got = type(values).__name__
    raise InvalidInput(f"{field} must be {expected}, got {got}", field=field, expected=expected)


def check_settings(settings: Mapping[str, Any] | None) -> None:
    """Refuse settings that no request can hold: no mapping, not a number, no tokens at all."""
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        wanted = "a mapping of their names to values"
        raise InvalidInput(
            f"model_settings must be {wanted}, got {type(settings).__name__}",
            field="model_settings",
            expected=wanted,
        )
    if settings.get("max_tokens") is not None:
        whole(settings["max_tokens"], "max_tokens", low=1)
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value) and name != "timeout":
            raise InvalidInput(
                f"{name} in model_settings must be a finite number, got {value!r}",
                field=str(name),
                expected="a finite number",
                value=value,
            )


def unwritable(error: BaseException) -> InvalidInput:
    """Return the error of a call that cannot be put into a request: no model has seen it."""
    is_text = isinstance(error, UnicodeEncodeError)
    field, expected = (
        ("message_history", "text without lone surrogates")
        if is_text
        else ("model_settings", "values that JSON knows")
    )
    return InvalidInput(
        f"the request cannot be written: message_history, tools and model_settings must hold "
        f"{expected}",
        field=field,
        expected=expected,
    )


def unusable(arm: ModelArm, name: str, kind: str, error: Exception) -> ProviderError:
    """Return the error of a model that cannot even be asked, with the way out."""
    provider = name.partition(":")[0]
    ways = {
        "auth": f"set {' or '.join(provider_key_names(provider)) or 'its key'}",
        "not_installed": f'pip install "conduit-router[{provider}]"',
        "not_found": "name it provider:model, as PydanticAI does",
    }
    failure = ProviderError(
        f"{arm.id} cannot be asked through {provider!r}: {ways[kind]}", model=arm.id, kind=kind
    )
    failure.__cause__ = ForeignError(described(error))
    return failure
