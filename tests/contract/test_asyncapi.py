"""The AsyncAPI document describes the dialect as the edge implements it.

Regenerate it: ``python tests/contract/test_asyncapi.py``.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from jsonschema.exceptions import best_match

from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import SUBPROTOCOL
from cloudmatch_edge.dialects.v1_messages import AnyFromDevice, AnyToDevice, FromDevice, ToDevice

FILE = Path(__file__).parents[2] / "edge/docs/asyncapi.json"
SCHEMA = json.loads((Path(__file__).parent / "vendor/asyncapi-3.0.0.json").read_text(encoding="utf-8"))
BINARY = {
    "title": "Binary payload",
    "summary": "A binary frame: a payload, byte for byte; it is numbered like a message.",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}
TEXT = {"type": "string", "minLength": 1, "maxLength": 64}
QUERY: dict[str, dict[str, Any]] = {
    "id": {
        **TEXT,
        "description": "Unique in its app; a newer connection closes the older one with 4001. Required, "
        "unless a token names it.",
    },
    "lat": {"type": "number", "minimum": -90, "maximum": 90, "description": "Degrees."},
    "lon": {"type": "number", "minimum": -180, "maximum": 180, "description": "Degrees."},
    "app": {**TEXT, "default": "default", "description": "Devices of different apps never see each other."},
    "radius": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Metres within which a peer may be; the smaller of both devices' radii counts.",
    },
    "tag": {"type": "string", "maxLength": 64, "description": "Only devices with equal tags are matched."},
    "resume": {
        "type": "string",
        "description": "Token from `welcome`: resume the session of a lost connection.",
    },
    "received": {
        "type": "integer",
        "minimum": 0,
        "description": "With `resume` and `match`: how many payloads of that match were received. More "
        "than were sent count nothing, and are answered with the error `bad_count`.",
    },
    "match": {
        "type": "integer",
        "minimum": 0,
        "description": "With `resume`: the match to which `received` applies; without, it counts nothing.",
    },
}


def document() -> dict[str, Any]:
    """Render the document from the edge's own structs."""
    structs: dict[str, list[type[FromDevice | ToDevice]]] = {
        "receive": list(AnyFromDevice.__args__),
        "send": list(AnyToDevice.__args__),
    }
    every = [struct for each in structs.values() for struct in each]
    _, schemas = msgspec.json.schema_components(every, ref_template="#/components/schemas/{name}")
    messages = {struct.__name__: _message(struct) for struct in every} | {"Binary": BINARY}
    operations = {
        "hearDevice" if action == "receive" else "tellDevice": {
            "action": action,
            "channel": {"$ref": "#/channels/device"},
            "messages": [{"$ref": f"#/channels/device/messages/{s.__name__}"} for s in each]
            + [{"$ref": "#/channels/device/messages/Binary"}],
        }
        for action, each in structs.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"CloudMatch: {SUBPROTOCOL}",
            "version": "1",
            "description": "The messages of a device's WebSocket. Text frames are JSON objects "
            "with a `type`; a binary frame is a payload. Fields are only ever added; unknown ones are "
            "ignored. For the order of messages see without-an-sdk.md next to this file.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8080", "protocol": "ws", "description": "`make up`"}},
        "channels": {
            "device": {
                "address": "/device/connect",
                "description": f"Offer the subprotocol `{SUBPROTOCOL}`.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": QUERY,
                            "required": ["lat", "lon"],
                        },
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Sec-WebSocket-Protocol": {
                                    "type": "string",
                                    "pattern": r"^cloudmatch\.v1(, *bearer\.[A-Za-z0-9._-]+)?$",
                                    "description": "The subprotocol; behind it a token, if the edge asks for "
                                    "one and the client, a page, can set no header.",
                                },
                                "Authorization": {
                                    "type": "string",
                                    "pattern": "^Bearer [A-Za-z0-9._-]+$",
                                    "description": "The token of the device, a JWT, if one is asked for.",
                                },
                            },
                        },
                    }
                },
            }
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(struct: type[FromDevice | ToDevice]) -> dict[str, Any]:
    summary = " ".join((struct.__doc__ or "").split())
    reference = {"$ref": f"#/components/schemas/{struct.__name__}"}
    return {"name": struct.__struct_config__.tag, "summary": summary, "payload": reference}


def rendered(described: dict[str, Any]) -> str:
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_the_document_matches_the_edge() -> None:
    assert FILE.read_text(encoding="utf-8") == rendered(document()), __doc__


def wrong(described: dict[str, Any]) -> tuple[str, str] | None:
    """Return where a document violates AsyncAPI, and why; None if it is valid."""
    error = best_match(jsonschema.Draft7Validator(SCHEMA).iter_errors(described))
    return None if error is None else ("/".join(map(str, error.absolute_path)), error.message)


def test_the_document_is_valid_asyncapi() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert wrong(json.loads(FILE.read_text(encoding="utf-8"))) is None


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("operations/hearDevice", "action", "publish"),
        ("channels/device/bindings/ws", "method", "PUT"),
        ("components/schemas/Ack", "type", "text"),
        ("components/messages/Ack", "title", 1),
    ],
)
def test_an_invalid_value_is_located(part: str, name: str, value: object) -> None:
    described = changed = copy.deepcopy(document())
    for each in part.split("/"):
        changed = changed[each]
    changed[name] = value
    found = wrong(described)
    assert found
    assert found[0] == f"{part}/{name}"


def test_an_unknown_field_is_found() -> None:
    described = copy.deepcopy(document())
    described["channels"]["device"]["path"] = "/"
    found = wrong(described)
    assert found
    assert found[0] == "channels/device"


def test_every_reference_of_the_document_resolves() -> None:
    described = json.loads(FILE.read_text(encoding="utf-8"))
    found = set(references(described))
    assert found
    for reference in found:
        part = described
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_the_document_names_every_parameter_of_a_connection() -> None:
    assert set(QUERY) == set(Parameters._fields)


if __name__ == "__main__":
    FILE.write_text(rendered(document()), encoding="utf-8")
