"""JSON that satisfies a JSON schema and carries an answer, or that breaks the schema on purpose."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where a schema's author most likely expects the answer.
ANSWER_FIELDS = ("answer", "value", "text", "result", "response", "output", "label", "content")
MARKER_FIELD = "marker"
FILLER = "simulated"
FULL_DEPTH = 5  # deeper objects hold only what is required, so that recursive schemas end
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
_WRONG: dict[str, Any] = {"unexpected": [None]}  # no string, number, boolean, list or enum
_NUMERIC = ("integer", "number")
_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}
# Tried in turn against a `pattern`; an exotic pattern is left unsatisfied.
_PATTERN_TRIES = ("A", "AAA", "a", "aaa", "1", "123", "12345", "A1", "AB12", "a-1", "+1 555", "")


def instance(schema: Mapping[str, Any], answer: str, markers: str = "") -> Any:
    """Return a value that the schema allows, with the answer where its author expects it.

    >>> instance({"properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}, "Oslo")
    {'city': 'Oslo', 'n': 1}
    """
    return _Filling(schema, answer, markers).value(schema, carries=True, depth=0)


def broken_json(schema: Mapping[str, Any], answer: str, markers: str = "") -> str:
    """Return text that the schema refuses: every field of a wrong type, or unfinished JSON."""
    value = instance(schema, answer, markers)
    if isinstance(value, dict) and value:
        return json.dumps(dict.fromkeys(value, _WRONG))
    return '{"unexpected": '


def as_number(text: str) -> float | None:
    """Return the number that a text is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class _Filling:
    """What goes into a value: the answer once, the markers wherever text is free."""

    root: Mapping[str, Any]
    answer: str
    markers: str

    def value(self, schema: object, *, carries: bool, depth: int) -> Any:
        """Return a value for one schema; the answer is in it if it `carries` and has room."""
        plain = self._resolved(schema)
        if "const" in plain:
            return plain["const"]
        if "enum" in plain:
            return self._member(plain["enum"]) if carries else plain["enum"][0]
        match _kind(plain):
            case "object":
                return self._object(plain, carries=carries, depth=depth)
            case "array":
                return self._array(plain, carries=carries, depth=depth)
            case "integer" | "number" as kind:
                return self._number(plain, kind, carries=carries)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(plain, carries=carries)

    def _resolved(self, schema: object) -> dict[str, Any]:
        """Return a schema without references, combinations and nullable unions."""
        plain: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
        while "$ref" in plain:
            target = self._target(plain.pop("$ref"))
            plain = {**target, **plain}
        for part in plain.pop("allOf", ()):
            plain = _merged(plain, self._resolved(part))
        options = [*plain.pop("anyOf", ()), *plain.pop("oneOf", ())]
        return _merged(plain, self._option(options)) if options else plain

    def _target(self, reference: str) -> dict[str, Any]:
        found: Any = self.root
        for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return dict(found)

    def _option(self, options: Sequence[object]) -> dict[str, Any]:
        """Return the option that can hold the answer, else the first that is not null."""
        resolved = [self._resolved(option) for option in options]
        usable = [option for option in resolved if _kind(option) != "null"] or resolved
        return next((option for option in usable if self._fits(option)), usable[0])

    def _fits(self, schema: Mapping[str, Any]) -> bool:
        """Whether the answer itself is a possible value of the schema."""
        if "enum" in schema or "const" in schema:
            members = schema.get("enum", [schema.get("const")])
            return any(self._is_answer(member) for member in members)
        kind = _kind(schema)
        return kind not in _NUMERIC or as_number(self.answer) is not None

    def _is_answer(self, member: object) -> bool:
        return str(member).casefold() == self.answer.casefold()

    def _member(self, members: Sequence[Any]) -> Any:
        return next((member for member in members if self._is_answer(member)), members[0])

    def _object(self, schema: Mapping[str, Any], *, carries: bool, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        wanted = [name for name in properties if depth < FULL_DEPTH or name in required]
        if not properties:
            return self._mapping(schema, carries=carries, depth=depth)
        carrier = self._carrier(properties) if carries else None
        has_marker = self.markers and MARKER_FIELD in properties
        filling = _Filling(self.root, self.answer, "") if has_marker else self
        value = {
            name: filling.value(properties[name], carries=name == carrier, depth=depth + 1)
            for name in wanted
        }
        return {**value, MARKER_FIELD: self.markers} if has_marker else value

    def _mapping(self, schema: Mapping[str, Any], *, carries: bool, depth: int) -> dict[str, Any]:
        extra = schema.get("additionalProperties", True)
        if extra is False:
            return {}
        return {"answer": self.value(extra, carries=carries, depth=depth + 1)}

    def _carrier(self, properties: Mapping[str, Any]) -> str | None:
        """Return the property that gets the answer: by its name, else by what it can hold."""
        lowered = {name.lower(): name for name in properties}
        named = next((lowered[name] for name in ANSWER_FIELDS if name in lowered), None)
        if named is not None:
            return named
        plain = {name: self._resolved(part) for name, part in properties.items()}
        numeric_answer = as_number(self.answer) is not None

        def rank(name: str) -> int:
            schema = plain[name]
            if "const" in schema or not self._fits(schema):
                return 9
            if "enum" in schema:
                return 0
            kinds = {"string": 2, "array": 4, "object": 5, "boolean": 8, "null": 9}
            return (
                (1 if numeric_answer else 7) if _kind(schema) in _NUMERIC else kinds[_kind(schema)]
            )

        return min(plain, key=rank, default=None)

    def _array(self, schema: Mapping[str, Any], *, carries: bool, depth: int) -> list[Any]:
        parts: list[object] = list(schema.get("prefixItems", ()))
        rest = schema.get("items", not parts)
        least = schema.get("minItems", 1 if rest and depth < FULL_DEPTH else 0)
        count = min(max(least, 1 if depth < FULL_DEPTH else 0), schema.get("maxItems", math.inf))
        while rest is not False and len(parts) < count:
            parts.append(rest)
        values = [
            self.value(part, carries=carries and i == 0, depth=depth + 1)
            for i, part in enumerate(parts)
        ]
        return _distinct(values) if schema.get("uniqueItems") else values

    def _number(self, schema: Mapping[str, Any], kind: str, *, carries: bool) -> float | int:
        said = as_number(self.answer) if carries else None
        low, high = _bounds(schema, 1 if kind == "integer" else 1e-6)
        value = 1.0 if said is None else said
        value = min(max(value, low), high)
        if kind == "integer" or schema.get("multipleOf"):
            step = schema.get("multipleOf", 1)
            value = max(round(value / step), math.ceil(low / step) if low > -math.inf else -(10**9))
            value *= step
        return int(value) if kind == "integer" else value

    def _string(self, schema: Mapping[str, Any], *, carries: bool) -> str:
        fixed = _FORMATS.get(schema.get("format", ""))
        if fixed is not None:
            return fixed
        text = f"{self.answer if carries else FILLER} {self.markers}".strip()
        if "pattern" in schema:
            tries = (text, self.answer, *_PATTERN_TRIES)
            return next((t for t in tries if re.search(schema["pattern"], t)), text)
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the type of a schema; what is allowed to be anything is a string."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind is None:
        return "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both schemas as one; properties and required names are united."""
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    """Return the lowest and the highest number a schema allows."""
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    above, below = (
        schema.get("exclusiveMinimum", -math.inf),
        schema.get("exclusiveMaximum", math.inf),
    )
    return max(low, above + step), min(high, below - step)


def _distinct(values: list[Any]) -> list[Any]:
    """Return the values with later repeats changed, as `uniqueItems` asks."""
    seen: list[Any] = []
    for i, value in enumerate(values):
        if value in seen and isinstance(value, str):
            value = f"{value} {i + 1}"
        elif value in seen and isinstance(value, int | float):
            value = value + i
        seen.append(value)
    return seen
