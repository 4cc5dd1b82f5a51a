"""The catalogue is offline: every test here runs with the network shut."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test at the first attempt to reach or even to name another machine."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the catalogue went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
