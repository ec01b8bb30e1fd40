"""The page, and how a request selects windows."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.exceptions import ClientException
from litestar.testing import TestClient

from cloudmatch_analytics.core.kafka_records import Added
from cloudmatch_analytics.core.windows import ALL, Shape
from cloudmatch_analytics.http_api import FILES, create_app, series, shape
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import serve
from cloudmatch_bus.process.listen import listen
from harness import eventually

ROOM = Path(__file__).parents[3] / "analytics"


def test_the_wheel_contains_all_files_of_the_page_and_the_licence_of_uplot(tmp_path):
    (wheel,) = WheelBuilder(str(ROOM)).build(directory=str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    for name in FILES:
        assert f"cloudmatch_analytics/web/{name}" in names
    assert "cloudmatch_analytics/web/vendor/uPlot.LICENSE" in names


def test_a_request_selects_the_series_of_all_of_an_app_or_of_a_device():
    assert series("", "") == ALL
    assert series("my app", "") == "my=20app"
    assert series("demo", "alice") == "demo.alice"
    assert series("", "alice") == "default.alice"


def test_windows_are_as_far_apart_as_they_are_long_unless_a_hop_is_given():
    assert shape("10s", "") == Shape(10_000, 10_000)
    assert shape("60s", "") == Shape(60_000, 60_000)
    assert shape("60s", "10s") == Shape(60_000, 10_000)


@pytest.mark.parametrize(("size", "hop"), [("11s", ""), ("60s", "5s"), ("10s", "60s")])
def test_a_shape_that_does_not_exist_is_refused_with_the_choices(size, hop):
    with pytest.raises(ClientException, match="10s"):
        shape(size, hop)


AXIS = {
    0: "0 B",
    0.5: "0.5 B",
    5: "5 B",
    999: "999 B",
    5000: "5 kB",
    1500: "1.5 kB",
    20_000: "20 kB",
    1e9: "1 GB",
}
FULL = {
    0: "0 B",
    4: "4 B",
    4.25: "4.25 B",
    999.4: "999 B",
    999.6: "1.00 kB",
    12_345: "12.3 kB",
    5e15: "5.00 PB",
}


texts = st.binary(max_size=8) | st.sampled_from([b"10s", b"60s", b"1", b"-1", b"9" * 5000, b"1e400", b"NaN"])


@pytest.fixture
def client():
    with TestClient(create_app(Health(), WindowStore(1, 1000), asyncio.Event())) as client:
        yield client


def test_any_bytes_in_a_query_are_answered(client):
    @settings(max_examples=200, deadline=None)
    @given(
        st.dictionaries(st.sampled_from(["size", "hop", "app", "device", "last", "minutes", "limit"]), texts)
    )
    def answered(query):
        encoded = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in query.items())
        for path in ("/windows", "/senders"):
            assert client.get(f"{path}?{encoded}").status_code in (200, 400)

    answered()


def test_senders_are_listed_though_one_has_a_name_that_no_device_has():
    store = WindowStore(1, 1000)
    start = store.now() // 10_000 * 10_000
    store.fold([Added("log", 0, 0, start, {"demo.=FF": (4, 1), "demo.a=2Eb": (5, 1)})])
    with TestClient(create_app(Health(), store, asyncio.Event())) as client:
        assert [each["device"] for each in client.get("/senders").json()] == ["a.b", "=FF"]


def test_the_page_has_its_media_types_once(client):
    for path, media_type in {"/": "text/html", "/web/page.css": "text/css"}.items():
        assert client.get(path).headers["content-type"] == f"{media_type}; charset=utf-8"


def test_openapi_has_the_shape_of_all_errors(client):
    paths = client.get("/schema/openapi.json").json()["paths"]
    assert set(paths) == {"/windows", "/windows/live", "/senders"}
    for path in paths.values():
        answer = path["get"]["responses"]["400"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": "#/components/schemas/Error"}
    refused = client.get("/windows?size=7s")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_amounts_are_written_with_three_digits_and_a_unit():
    script = (ROOM / "src/cloudmatch_analytics/web/page.js").read_text(encoding="utf-8")
    source = script[script.index("const UNITS") : script.index("const plural")]
    amounts = json.dumps([list(AXIS), list(FULL)])
    show = f"console.log(JSON.stringify([{amounts}[0].map(round), {amounts}[1].map(bytes)]))"
    done = subprocess.run(["node", "-e", source + show], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(AXIS.values()), list(FULL.values())]


def test_the_page_works_under_a_path_of_a_proxy_as_all_its_addresses_are_relative(client):
    text = client.get("/").text + client.get("/web/page.js").text
    assert 'src="web/page.js"' in text
    assert "fetch(`windows?" in text
    assert not re.search(r"""(href|src)="/|(fetch|EventSource)\(["'`]/""", text)


@contextlib.asynccontextmanager
async def serving(store, **how):
    stop, sock = asyncio.Event(), listen("127.0.0.1", 0, "")
    task = asyncio.create_task(serve(create_app(Health(), store, stop, **how), "test", [sock], stop))
    yield sock.getsockname()[1]
    stop.set()
    await task
    sock.close()


async def ask(port, path):
    """Begin a request; return the status, the head, and what ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return int(head.split()[1]), head.lower(), writer


async def test_of_too_many_listeners_the_last_is_refused_until_another_has_left():
    async with serving(WindowStore(1, 1000), listeners=2) as port:
        asked = await asyncio.gather(*(ask(port, "/windows/live") for _ in range(5)))
        held = [writer for status, _, writer in asked if status == 200]
        refused = [(status, b"\r\nretry-after: 1\r\n" in head) for status, head, _ in asked if status != 200]
        assert (len(held), refused) == (2, [(503, True)] * 3)
        held[0].close()

        async def admitted():
            status, _, writer = await ask(port, "/windows/live")
            writer.close()
            return status == 200

        await eventually(admitted)
        for _, _, writer in asked:
            writer.close()


async def test_probes_are_answered_while_queries_take_long_and_too_many_queries_are_refused(monkeypatch):
    store, over = WindowStore(1, 1000), threading.Event()
    monkeypatch.setattr("cloudmatch_analytics.http_api.WAITING", 3)
    monkeypatch.setattr(store, "last", lambda *_: over.wait(20) and [])
    async with serving(store) as port:
        waiting = [asyncio.create_task(ask(port, "/windows")) for _ in range(6)]
        await eventually(lambda: any(each.done() for each in waiting))
        answers = [await ask(port, "/system/liveness")]
        over.set()
        answers += await asyncio.gather(*waiting)
        for _, _, writer in answers:
            writer.close()
    assert sorted(status for status, *_ in answers) == [200] * 6 + [503]
