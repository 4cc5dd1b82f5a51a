"""The forms of OpenAI's APIs: requests read into what they ask, completions written as bytes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from conduit.testing.provider_answers import Ask, Completion, Role, Tool, Turn, ask_from
from conduit.testing.provider_models import count_tokens
from conduit.testing.provider_schema import ANSWER_SCHEMA

MEDIA_TOKENS = 85  # of an image or a file, whatever its size
MIN_PIECE_CHARS = 4  # of a streamed text: about a token
MAX_PIECES = 200
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class Event(NamedTuple):
    """One server-sent event, and whether it is the model's words."""

    data: bytes
    is_token: bool = False


class Wire(Protocol):
    """One API: how its requests are read and its answers are written."""

    path: ClassVar[str]

    def parse(self, body: Mapping[str, Any]) -> Ask:
        """Return what a request asks; ValueError, TypeError or KeyError when it is malformed."""

    def whole(self, said: Completion, ask: Ask, request_id: str, now: float) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""

    def events(self, said: Completion, ask: Ask, request_id: str, now: float) -> list[Event]:
        """Return the events of a streamed answer, from the first to the last."""

    def error_event(self, code: str, message: str) -> Event:
        """Return the event that reports a failure in the middle of a stream."""


def pieces_of(text: str) -> list[str]:
    """Return a text in pieces of a few characters, as a model streams it."""
    size = max(MIN_PIECE_CHARS, -(-len(text) // MAX_PIECES))
    return [text[at : at + size] for at in range(0, len(text), size)]


def error_body(kind: str, code: str | None, message: str) -> dict[str, Any]:
    """Return an error in the shape that every endpoint uses."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class ChatWire:
    """`POST /v1/chat/completions`."""

    path: ClassVar[str] = "/v1/chat/completions"

    def parse(self, body: Mapping[str, Any]) -> Ask:
        """Return what a request asks."""
        tools = tuple(_tool(tool["function"]) for tool in body.get("tools") or ())
        choice, tools = _chosen(body.get("tool_choice"), tools)
        form = body.get("response_format") or {}
        options = body.get("stream_options") or {}
        return ask_from(
            [_chat_turn(message) for message in _items(body["messages"])],
            model=_text(body["model"]),
            stream=bool(body.get("stream")),
            include_usage=bool(options.get("include_usage")),
            tools=tools,
            tool_choice=choice,
            schema=_schema(form),
            max_tokens=_count(body.get("max_completion_tokens", body.get("max_tokens"))),
        )

    def whole(self, said: Completion, ask: Ask, request_id: str, now: float) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
        if said.tool is not None:
            function = {"name": said.tool, "arguments": said.content}
            call = {"id": f"call_{request_id}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": said.finish,
        }
        body = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": int(now),
            "model": ask.model,
            "choices": [choice] if said.has_choices else [],
        }
        return body | ({"usage": _chat_usage(said, ask)} if said.usage_sign else {})

    def events(self, said: Completion, ask: Ask, request_id: str, now: float) -> list[Event]:
        """Return the chunks of a streamed answer, from the role to `[DONE]`."""
        base = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": int(now),
            "model": ask.model,
        }
        with_usage = ask.include_usage and said.usage_sign != 0
        nothing_yet = {"usage": None} if with_usage else {}

        def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            choices = [choice] if said.has_choices else []
            return _sse(base | {"choices": choices} | nothing_yet)

        function = {"name": said.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{request_id}", "type": "function", "function": function}
        opening = {"content": ""} if said.tool is None else {"content": None, "tool_calls": [call]}
        first = Event(chunk({"role": "assistant", **opening}))
        tokens = [
            Event(chunk(_delta(said, piece)), True) for piece in pieces_of(said.content or "")
        ]
        events = [first, *tokens, Event(chunk({}, said.finish))]
        if with_usage:
            events.append(Event(_sse(base | {"choices": [], "usage": _chat_usage(said, ask)})))
        return [*events, Event(b"data: [DONE]\n\n")]

    def error_event(self, code: str, message: str) -> Event:
        """Return the event that reports a failure in the middle of a stream."""
        return Event(_sse(error_body("server_error", code, message)))


class TextWire:
    """`POST /v1/completions`, the older form: a prompt instead of messages."""

    path: ClassVar[str] = "/v1/completions"

    def parse(self, body: Mapping[str, Any]) -> Ask:
        """Return what a request asks."""
        options = body.get("stream_options") or {}
        return ask_from(
            [Turn("user", _prompt(body["prompt"]), 0)],
            model=_text(body["model"]),
            stream=bool(body.get("stream")),
            include_usage=bool(options.get("include_usage")),
            max_tokens=_count(body.get("max_tokens")),
        )

    def whole(self, said: Completion, ask: Ask, request_id: str, now: float) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        usage = {"usage": _chat_usage(said, ask)} if said.usage_sign else {}
        return self._body(said, ask, request_id, now, said.content or "", said.finish) | usage

    def events(self, said: Completion, ask: Ask, request_id: str, now: float) -> list[Event]:
        """Return the chunks of a streamed answer, from the first words to `[DONE]`."""

        def chunk(text: str, finish: str | None = None) -> bytes:
            return _sse(self._body(said, ask, request_id, now, text, finish))

        events = [Event(chunk(piece), True) for piece in pieces_of(said.content or "")]
        events.append(Event(chunk("", said.finish)))
        if ask.include_usage and said.usage_sign:
            body = self._body(said, ask, request_id, now, "", None)
            events.append(Event(_sse(body | {"choices": [], "usage": _chat_usage(said, ask)})))
        return [*events, Event(b"data: [DONE]\n\n")]

    def error_event(self, code: str, message: str) -> Event:
        """Return the event that reports a failure in the middle of a stream."""
        return Event(_sse(error_body("server_error", code, message)))

    def _body(
        self, said: Completion, ask: Ask, request_id: str, now: float, text: str, finish: str | None
    ) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(now),
            "model": ask.model,
            "choices": [choice] if said.has_choices else [],
        }


class ResponsesWire:
    """`POST /v1/responses`."""

    path: ClassVar[str] = "/v1/responses"

    def parse(self, body: Mapping[str, Any]) -> Ask:
        """Return what a request asks."""
        given = body["input"]
        turns = [Turn("user", given)] if isinstance(given, str) else _response_turns(given)
        if body.get("instructions"):
            turns = [Turn("system", _text(body["instructions"])), *turns]
        functions = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
        choice, tools = _chosen(body.get("tool_choice"), tuple(map(_tool, functions)))
        form = (body.get("text") or {}).get("format") or {}
        return ask_from(
            turns,
            model=_text(body["model"]),
            stream=bool(body.get("stream")),
            tools=tools,
            tool_choice=choice,
            schema=_schema(form),
            max_tokens=_count(body.get("max_output_tokens")),
        )

    def whole(self, said: Completion, ask: Ask, request_id: str, now: float) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        return self._response(said, ask, request_id, now, self._output(said, request_id))

    def events(self, said: Completion, ask: Ask, request_id: str, now: float) -> list[Event]:
        """Return the events of a streamed answer, from `response.created` to its last state."""
        begun = self._response(said, ask, request_id, now, []) | {
            "status": "in_progress",
            "usage": None,
            "incomplete_details": None,
        }
        ended = self.whole(said, ask, request_id, now)
        bodies: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            *(_item_events(said, ended["output"][0]) if ended["output"] else ()),
            {"type": f"response.{ended['status']}", "response": ended},
        ]
        return [
            Event(_sse(body | {"sequence_number": i}, body["type"]), body["type"].endswith("delta"))
            for i, body in enumerate(bodies)
        ]

    def error_event(self, code: str, message: str) -> Event:
        """Return the event that reports a failure in the middle of a stream."""
        # Nested, as it is sent, and flat, as it is documented.
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        body = {**error, "type": "error", "error": error, "sequence_number": 1_000}
        return Event(_sse(body, "error"))

    def _output(self, said: Completion, request_id: str) -> list[dict[str, Any]]:
        if not said.has_choices:
            return []
        if said.tool is not None:
            call = {"id": f"fc_{request_id}", "type": "function_call", "status": "completed"}
            names = {"call_id": f"call_{request_id}", "name": said.tool}
            return [call | names | {"arguments": said.content}]
        part: dict[str, Any] = {
            "type": "output_text",
            "text": said.content,
            "annotations": [],
            "logprobs": [],
        }
        message = {"id": f"msg_{request_id}", "type": "message", "status": "completed"}
        return [message | {"role": "assistant", "content": [] if said.is_empty else [part]}]

    def _response(
        self, said: Completion, ask: Ask, request_id: str, now: float, output: Sequence[object]
    ) -> dict[str, Any]:
        reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
        reason = reasons.get(said.finish)
        return {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": int(now),
            "status": "completed" if reason is None else "incomplete",
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "instructions": None,
            "metadata": {},
            "model": ask.model,
            "output": list(output),
            "parallel_tool_calls": False,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": _response_usage(said, ask) if said.usage_sign else None,
        }


WIRES: tuple[Wire, ...] = (ChatWire(), TextWire(), ResponsesWire())


def _sse(body: Mapping[str, Any], event: str | None = None) -> bytes:
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    return name + b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _delta(said: Completion, piece: str) -> dict[str, Any]:
    if said.tool is None:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _item_events(said: Completion, item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of one output item between its adding and its end."""
    place: dict[str, Any] = {"output_index": 0, "item_id": item["id"]}
    nothing: dict[str, Any] = {"arguments": ""} if said.tool is not None else {"content": []}
    empty = item | {"status": "in_progress"} | nothing
    if said.tool is not None:
        kind = "response.function_call_arguments"
        middle = [
            place | {"type": f"{kind}.delta", "delta": p} for p in pieces_of(said.content or "")
        ]
        done = {"type": f"{kind}.done", "name": said.tool, "arguments": said.content}
        middle.append(place | done)
    else:
        middle = _text_events(place, item["content"])
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        *middle,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def _text_events(place: dict[str, Any], parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not parts:
        return []
    part, at = parts[0], place | {"content_index": 0}
    text = "response.output_text"
    deltas = [
        at | {"type": f"{text}.delta", "delta": piece, "logprobs": []}
        for piece in pieces_of(part["text"])
    ]
    return [
        at | {"type": "response.content_part.added", "part": part | {"text": ""}},
        *deltas,
        at | {"type": f"{text}.done", "text": part["text"], "logprobs": []},
        at | {"type": "response.content_part.done", "part": part},
    ]


def _chat_usage(said: Completion, ask: Ask) -> dict[str, Any]:
    sign = said.usage_sign
    return {
        "prompt_tokens": sign * ask.input_tokens,
        "completion_tokens": sign * said.output_tokens,
        "total_tokens": sign * (ask.input_tokens + said.output_tokens),
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sign * said.hidden_tokens},
    }


def _response_usage(said: Completion, ask: Ask) -> dict[str, Any]:
    sign = said.usage_sign
    return {
        "input_tokens": sign * ask.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": sign * said.output_tokens,
        "output_tokens_details": {"reasoning_tokens": sign * said.hidden_tokens},
        "total_tokens": sign * (ask.input_tokens + said.output_tokens),
    }


def _chat_turn(message: Mapping[str, Any]) -> Turn:
    text, extra = _content(message.get("content"))
    for call in message.get("tool_calls") or ():
        extra += count_tokens(call["function"]["arguments"])
    return Turn(_ROLES[message["role"]], text, extra)


def _prompt(prompt: object) -> str:
    """Return the one text of a prompt; tokens are as good as words."""
    parts = prompt if isinstance(prompt, list) else [prompt]
    if parts and all(type(part) is int for part in parts):
        return " ".join(map(str, parts))
    if len(parts) != 1:
        raise ValueError("prompt must be one text, or a list of tokens")
    return _text(parts[0])


def _response_turns(items: object) -> list[Turn]:
    turns = []
    for item in _items(items):
        match item.get("type", "message"):
            case "message":
                turns.append(Turn(_ROLES[item["role"]], *_content(item["content"])))
            case "function_call":
                turns.append(Turn("assistant", "", count_tokens(item["arguments"])))
            case "function_call_output":
                turns.append(Turn("tool", *_content(item["output"])))
    return turns


def _content(content: object) -> tuple[str, int]:
    """Return the text of a message's content, and what the rest of it counts in tokens."""
    if content is None or isinstance(content, str):
        return content or "", 0
    texts, extra = [], 0
    for part in _items(content):
        if part["type"] in ("text", "input_text", "output_text"):
            texts.append(_text(part["text"]))
        else:
            extra += MEDIA_TOKENS
    return "\n".join(texts), extra


def _items(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise TypeError("expected a list of objects")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("expected a positive whole number of tokens")
    return value


def _tool(function: Mapping[str, Any]) -> Tool:
    return Tool(_text(function["name"]), function.get("parameters") or {"type": "object"})


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema that a response format asks for; None where text will do."""
    match form.get("type"):
        case "json_object":
            return ANSWER_SCHEMA
        case "json_schema":
            schema: Mapping[str, Any] = form.get("json_schema", form)["schema"]
            return schema
        case _:
            return None


def _chosen(choice: object, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """Return how tools may be used, and which; a named tool is one that must be called."""
    if choice is None or isinstance(choice, str):
        return choice or "auto", tools
    if not isinstance(choice, Mapping):
        raise TypeError("tool_choice must be a string or an object")
    allowed = choice.get("allowed_tools", choice)
    listed = allowed.get("tools", [choice])
    names = {(entry.get("function") or entry)["name"] for entry in listed}
    mode = allowed.get("mode", "required")
    return mode, tuple(tool for tool in tools if tool.name in names)
