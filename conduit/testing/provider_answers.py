"""From a request to what the model says: right or wrong, valid or not, and what it bills."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from conduit.testing.provider_faults import Fault, FaultKind
from conduit.testing.provider_models import SimulatedModel, chance_of, count_tokens, draw
from conduit.testing.provider_questions import OTHER, Question, markers_of, prompt_id, recognise
from conduit.testing.provider_schema import broken_json, instance

Finish = Literal["stop", "length", "tool_calls", "content_filter"]
Role = Literal["system", "user", "assistant", "tool"]

OUTPUT_TOOL = "final_result"  # PydanticAI's tools for structured output begin with it
# How PydanticAI ends the message that asks for a better answer: not a new question.
RETRY_REQUEST = "Fix the errors and try again."
TOKENS_PER_TURN = 4  # role and separators
TOOL_ANSWER = "The tool says: "
TOOL_RESULT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, whatever the API's form."""

    role: Role
    text: str
    extra_tokens: int = 0  # images, tool calls


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: Mapping[str, Any]

    @property
    def is_output(self) -> bool:
        """Whether calling it is the client's way to ask for a structured answer."""
        return self.name.startswith(OUTPUT_TOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one request asks for, whatever the API's form."""

    model: str
    prompt: str  # the last question of the user
    input_tokens: int
    stream: bool = False
    include_usage: bool = True
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"  # auto, none, required
    schema: Mapping[str, Any] | None = None  # of a structured answer as text
    attempt: int = 0  # how often the model has spoken since the question
    tool_result: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model says, what the provider bills, and what it reports."""

    content: str | None
    tool: str | None = None
    finish: Finish = "stop"
    output_tokens: int = 0
    hidden_tokens: int = 0  # billed beyond the text, as reasoning is
    topic: str = OTHER
    is_right: bool = True
    is_valid: bool = True
    has_choices: bool = True
    usage_sign: Literal[1, -1, 0] = 1  # 0: not reported

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is said."""
        return self.content is None


def ask_from(turns: Sequence[Turn], **rest: Any) -> Ask:
    """Return what a conversation asks, with its last question and what happened since."""
    at = next((i for i in range(len(turns) - 1, -1, -1) if _is_question(turns[i])), None)
    since = turns if at is None else turns[at + 1 :]
    results = [t.text for t in since if t.role == "tool" and RETRY_REQUEST not in t.text]
    tokens = sum(count_tokens(t.text) + t.extra_tokens + TOKENS_PER_TURN for t in turns)
    tools: Sequence[Tool] = rest.get("tools", ())
    return Ask(
        prompt="" if at is None else turns[at].text,
        attempt=sum(turn.role == "assistant" for turn in since),
        tool_result=results[-1] if results else None,
        input_tokens=tokens + sum(count_tokens(json.dumps(tool.parameters)) for tool in tools),
        **rest,
    )


def compose(model: SimulatedModel, ask: Ask, seed: int) -> Completion:
    """Return what a model says: always the same for the same seed, model and conversation."""
    question = recognise(ask.prompt)
    lot = (seed, model.name, prompt_id(ask.prompt))
    is_right = draw(*lot, "skill") < chance_of(model.skill, question.topic)
    is_valid = draw(*lot, "validity", ask.attempt) < chance_of(model.validity, question.topic)
    answer = _answer(model, ask, question, lot, is_right)
    markers = markers_of(ask.prompt)
    tool = _tool_to_call(model, ask)
    schema = ask.schema if tool is None else tool.parameters
    if schema is None:
        content, is_valid = f"{answer} {markers}".strip(), True
    elif tool is not None and not tool.is_output:
        content, is_valid = json.dumps(instance(schema, answer, markers)), True
    else:
        content = _structured(schema, answer, markers, is_valid)
    said = Completion(
        content=content,
        tool=None if tool is None else tool.name,
        finish="stop" if tool is None else "tool_calls",
        topic=question.topic,
        is_right=is_right,
        is_valid=is_valid,
    )
    low, high = model.output_range()
    planned = low + int(draw(*lot, "length") * (high - low + 1))
    return _counted(said, planned if model.output_tokens is not None else None, ask.max_tokens)


def altered(completion: Completion, fault: Fault) -> Completion:
    """Return what is left of a completion after a fault that changes what is said."""
    match fault.kind:
        case FaultKind.NO_USAGE:
            return replace(completion, usage_sign=0)
        case FaultKind.NEGATIVE_USAGE:
            return replace(completion, usage_sign=-1)
        case FaultKind.NO_CHOICES:
            return replace(completion, has_choices=False)
        case FaultKind.NULL_CONTENT:
            return replace(completion, content=None, tool=None, finish="stop")
        case FaultKind.CONTENT_FILTER:
            return replace(completion, content=None, tool=None, finish="content_filter")
        case FaultKind.LENGTH:
            text = completion.content or ""
            return replace(completion, content=text[: len(text) // 2], finish="length")
        case _:
            return completion


def _is_question(turn: Turn) -> bool:
    return turn.role == "user" and RETRY_REQUEST not in turn.text


def _answer(
    model: SimulatedModel, ask: Ask, question: Question, lot: tuple[object, ...], is_right: bool
) -> str:
    """Return the bare answer: the responder's, the tool's, the right one or a wrong one."""
    said = model.responder(ask.prompt) if model.responder is not None else None
    if said is not None:
        return said
    if question.topic == OTHER and ask.tool_result is not None:
        return f"{TOOL_ANSWER}{ask.tool_result[:TOOL_RESULT_CHARS]}"
    if is_right or not question.wrong:
        return question.expected
    return question.wrong[int(draw(*lot, "slip") * len(question.wrong))]


def _tool_to_call(model: SimulatedModel, ask: Ask) -> Tool | None:
    """Return the tool that this turn calls: an ordinary one first, then the output's."""
    if ask.tool_choice == "none":
        return None
    ordinary = [tool for tool in ask.tools if not tool.is_output]
    output = [tool for tool in ask.tools if tool.is_output]
    if ordinary and model.calls_tools and ask.tool_result is None:
        return ordinary[0]
    if output:
        return output[0]
    return ordinary[0] if ordinary and ask.tool_choice == "required" else None


def _structured(schema: Mapping[str, Any], answer: str, markers: str, is_valid: bool) -> str:
    """Return a structured answer as JSON; a responder's own object is passed on."""
    if not is_valid:
        return broken_json(schema, answer, markers)
    if answer.startswith("{"):
        return answer
    return json.dumps(instance(schema, answer, markers))


def _counted(said: Completion, planned: int | None, limit: int | None) -> Completion:
    """Return the completion with its tokens, cut off at the limit that the client set."""
    content = said.content or ""
    tokens = count_tokens(content)
    if limit is not None and tokens > limit:
        said = replace(said, content=content[: max(limit, 0) * 4], finish="length")
        tokens = limit
    billed = tokens if planned is None else planned
    billed = billed if limit is None else min(billed, limit)
    return replace(said, output_tokens=billed, hidden_tokens=max(0, billed - tokens))
