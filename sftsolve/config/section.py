"""What all sections of a configuration share: strict types, known keys, paths, and readable refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from sftsolve.errors import ConfigError, nearest

_LONGEST_VALUE = 100
_WORDS = {
    "bool_type": "true or false",
    "dict_type": "a table { key = value, ... }",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list [...]",
    "model_type": "a table { key = value, ... }",
    "string_too_short": "text that is not empty",
    "string_type": 'text in quotes, "..."',
}


class Typed(str):
    """Text from the command line, where a relative path means the current directory and not the file's folder."""

    __slots__ = ()


def refusal(message: str, *, expected: str = "", remedy: str = "") -> PydanticCustomError:
    """An error for a validator to raise; `explain` turns it into a ConfigError with the same words."""
    return PydanticCustomError("refused", "{message}", {"message": message, "expected": expected, "remedy": remedy})


class Section(BaseModel):
    """A table of the file. Keys are those of the model; `later` names keys that are planned and refused until then."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    later: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        known = list(cls.model_fields)
        for key in given:
            if key in cls.later:
                raise refusal(f"{key!r} is not supported yet", expected=", ".join(known), remedy=cls.later[key])
            if key not in known:
                raise refusal(f"unknown key {key!r}", expected=", ".join(known), remedy=nearest(str(key), known))
        for key, field in cls.model_fields.items():
            if field.is_required() and key not in given:
                raise refusal(
                    f"{key!r} is missing", expected=field.description or f"a value for {key!r}", remedy=f"add {key} = ..."
                )
        return given


def _absolute(path: object, info: ValidationInfo) -> object:
    if not isinstance(path, str) or not path:
        return path
    if "\0" in path:
        raise refusal("this is no path", expected="a path without null characters")
    base = Path.cwd() if isinstance(path, Typed) else Path((info.context or {}).get("folder", "."))
    return str(base / Path(path).expanduser())


Location = Annotated[str, BeforeValidator(_absolute)]
"""A path; relative ones start at the folder of the file, or at the current directory when typed on the command line."""


def explain(error: ValidationError, document: Mapping[str, Any], name: str) -> ConfigError:
    """The first of pydantic's complaints about `document`, read from the file `name`, as one readable error."""
    entries = error.errors()
    first = entries[0]
    key = _key(first["loc"], document)
    context = first.get("ctx", {})
    remedy = context.get("remedy") or None
    if len(entries) > 1:
        others = ", ".join(dict.fromkeys(_key(entry["loc"], document) for entry in entries[1:])) or key
        remedy = f"{remedy}; also look at {others}" if remedy else f"change it; also look at {others}"
    place = f"{key} in {name}" if key else name
    if first["type"] == "refused":
        given = None if isinstance(first["input"], Mapping) else _shown(first["input"])
        return ConfigError(f"{place}: {context['message']}", expected=context["expected"] or None, given=given, remedy=remedy)
    if first["type"].startswith("union_tag"):
        tags = context.get("expected_tags", "").replace("'", "")
        tag = context.get("tag", "nothing")
        near = nearest(str(tag), tags.split(", ")) if tags else None
        return ConfigError(f"the kind of {place} is not known", expected=f"kind = one of {tags}", given=tag, remedy=near)
    expected = _WORDS.get(first["type"], first["msg"].removeprefix("Input should be "))
    return ConfigError(f"{place} is not usable", expected=expected, given=_shown(first["input"]), remedy=remedy)


def _shown(value: object) -> str:
    text = repr(str(value) if isinstance(value, Typed) else value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _key(location: tuple[str | int, ...], document: object) -> str:
    """The dotted key of a location, without the tags that pydantic adds for the branches of a union."""
    parts: list[str] = []
    for step in location:
        if isinstance(document, Mapping) and step in document:
            document = document[step]
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            continue
        parts.append(str(step))
    return ".".join(parts)
