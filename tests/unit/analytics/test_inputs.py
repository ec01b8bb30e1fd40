"""Messages that are published as dead letters."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiormq import spec

from cloudmatch_analytics.inputs import publish_dead


@pytest.mark.parametrize("value", [1e300, 10**30, {"a": [1e300]}])
async def test_headers_that_cannot_be_encoded_become_text_in_a_dead_letter(value: object) -> None:
    published: list[Any] = []

    async def publish(body: bytes, **of: Any) -> None:
        published.append((body, of["properties"]))

    properties = spec.Basic.Properties(headers={"app": 5, "odd": value}, message_id="m")
    message = SimpleNamespace(
        body=b"four", header=SimpleNamespace(properties=properties), exchange="", routing_key="q"
    )
    await publish_dead(SimpleNamespace(basic_publish=publish), "q", message)  # type: ignore[arg-type]
    ((body, made),) = published
    assert body == b"four"
    assert (made.message_id, made.headers["app"], made.headers["odd"]) == ("m", 5, repr(value))
    assert made.headers["x-death"][0]["queue"] == "q"
    made.marshal()
