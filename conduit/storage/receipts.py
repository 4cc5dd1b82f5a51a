"""Signed receipts: a decision as a compact token, so that feedback needs no row of it.

A receipt says what the learner needs (the features, the model, the propensity, who answered once
that is known) and is signed with HMAC-SHA256. Processes that share `CONDUIT_SECRET` accept each
other's receipts; without it each process signs with a key of its own, and its receipts end with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import struct
import uuid

import numpy as np

from conduit.core.errors import ExpiredDecision, UnknownDecision
from conduit.core.events import DecisionRecord

PREFIX = "cr1."  # the form of the token; another form gets another number
_SIGNATURE_BYTES = 32
_HEAD = struct.Struct("<dddd")  # created, expires, propensity, input tokens; NaN is unknown
_LENGTH = struct.Struct("<H")
_PROCESS_SECRET = secrets.token_bytes(32)


def secret_bytes(secret: str | None) -> bytes:
    """Return the key for a configured secret, or this process's own key without one."""
    return _PROCESS_SECRET if not secret else hashlib.sha256(secret.encode()).digest()


def is_receipt(text: str) -> bool:
    """Return whether a text claims to be a receipt, rather than the id of a decision."""
    return text.startswith(PREFIX)


def sign(record: DecisionRecord, secret: bytes, answered_by: str | None = None) -> str:
    """Return the receipt of a decision; it holds neither text nor estimates."""
    body = _body(record, answered_by)
    token = base64.urlsafe_b64encode(body + _signature(body, secret)).rstrip(b"=")
    return PREFIX + token.decode()


def verify(token: str, secret: bytes, now: float) -> tuple[DecisionRecord, str | None]:
    """Return the decision of a genuine receipt, and who answered if that was known by then.

    Raises UnknownDecision for anything that this secret did not sign, and ExpiredDecision for a
    receipt that came too late.
    """
    body = _verified(token, secret)
    try:
        record, answered_by = _record(body)
    except (struct.error, ValueError, IndexError) as error:
        raise _unknown(token) from error
    if record.expires_at < now:
        raise ExpiredDecision(record.id, record.expires_at)
    return record, answered_by


def _verified(token: str, secret: bytes) -> bytes:
    encoded = token.removeprefix(PREFIX)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unknown(token) from error
    body, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    if not is_receipt(token) or not hmac.compare_digest(signature, _signature(body, secret)):
        raise _unknown(token)
    return body


def _unknown(token: str) -> UnknownDecision:
    hint = "this receipt was altered, or signed with another CONDUIT_SECRET"
    return UnknownDecision(token[:12], hint)


def _signature(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, PREFIX.encode() + body, "sha256")


def _body(r: DecisionRecord, answered_by: str | None) -> bytes:
    numbers = (r.created_at, r.expires_at, r.propensity, r.input_tokens)
    words = (_packed_id(r.id), r.router, r.model, r.schema, r.user_key or "", answered_by or "")
    return b"".join(
        (
            _HEAD.pack(*(math.nan if n is None else n for n in numbers)),
            *(_sized(w if isinstance(w, bytes) else w.encode("utf-8", "replace")) for w in words),
            _sized(r.x.astype("<f4", copy=False).tobytes()),
        )
    )


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _packed_id(identity: str) -> bytes:
    """Return a uuid as its 16 bytes and any other id as text, and which of the two it is."""
    try:
        value = uuid.UUID(identity)
    except ValueError:
        value = None
    if value is None or str(value) != identity:
        return b"\0" + identity.encode("utf-8", "replace")
    return b"\1" + value.bytes


def _unpacked_id(data: bytes) -> str:
    return str(uuid.UUID(bytes=data[1:])) if data[:1] == b"\1" else data[1:].decode()


def _record(body: bytes) -> tuple[DecisionRecord, str | None]:
    created_at, expires_at, *unsure = _HEAD.unpack_from(body)
    propensity, input_tokens = (None if math.isnan(n) else n for n in unsure)
    parts, at = [], _HEAD.size
    while at < len(body):
        (size,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        parts.append(body[at : at + size])
        at += size
    identity, router, model, schema, user_key, answered_by, x = parts
    record = DecisionRecord(
        id=_unpacked_id(identity),
        router=router.decode(),
        model=model.decode(),
        x=np.frombuffer(x, "<f4"),
        schema=schema.decode(),
        created_at=created_at,
        expires_at=expires_at,
        propensity=propensity,
        input_tokens=input_tokens,
        user_key=user_key.decode() or None,
    )
    return record, answered_by.decode() or None
