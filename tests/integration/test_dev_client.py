"""The edge's page in Chromium, with the whole system behind it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from websockets.sync.client import connect

import harness
from harness import KafkaBroker, Service, eventually_sync
from harness.page import System, Visitor, accessible, chromium, matched, system
from harness.processes import environment
from harness.programs import need

pytestmark = pytest.mark.servers
CLASSIC = "#a@1,1;dialect=classic&c@1,2;dialect=classic&b@1,3;dialect=classic&d@1,5;dialect=classic"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def whole(browser: Browser, shared_amqp_url: str, shared_kafka_broker: KafkaBroker) -> Iterator[System]:
    with (
        harness.nats_server() as bus,
        system(bus.url, shared_amqp_url, dict(shared_kafka_broker.settings)) as running,
    ):
        yield running


@pytest.fixture
def visit(browser: Browser, whole: System) -> Iterator[Callable[..., Visitor]]:
    """Open the page with the devices of a fragment; disconnect them all at the end."""
    visitors: list[Visitor] = []

    def open_page(fragment: str = "", url: str = "", **options: object) -> Visitor:
        visitors.append(Visitor(browser, (url or whole.url) + "/" + fragment, **options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.page.locator("#leave-all").click()
        connected = visitor.page.locator(".card:not([data-state=off])")
        eventually_sync(lambda c=connected: c.count() == 0, what="devices that have left")
        visitor.close()


def test_the_story_of_2019_works_by_clicks_and_shows_in_journal_chart_and_counters(
    visit: Callable[..., Visitor],
) -> None:
    visitor = visit(CLASSIC)
    a, b, c = (visitor.card(name) for name in "abc")
    matched(visitor, "a", "c")
    a.logs("Connected and handled by edge-0")
    a.logs("I matched with device 'c'!")
    c.logs("I matched with device 'a'!")
    b.click("Connect")
    b.shows_state("waiting")
    why = b.node.locator(".why")
    why.get_by_text("c, 110 km away, is in another match.").wait_for()
    why.get_by_text("a, 220 km away, is in another match, is too far away.").wait_for()

    a.send("ciao")
    c.logs("device a says: ciao")
    c.node.locator(".counts", has_text="Received 1 (4 bytes).").wait_for()
    assert "device a says: ciao" not in "".join(b.log())
    visitor.page.locator("#events").get_by_text("a → c: 1 payload, 4 bytes").wait_for()
    visitor.page.locator("#chart rect title", has_text="4 bytes in 1 payload").first.wait_for(
        state="attached"
    )
    visitor.page.locator("#counts").get_by_text("sizes in RabbitMQ 1 · dead letters 0").wait_for()
    visitor.page.set_viewport_size({"width": 1280, "height": 1000})
    visitor.documented("story")

    c.click("Leave")
    c.shows_state("not connected")
    a.shows_state("waiting")  # found out by the page: the dialect does not report it
    assert visitor.page.locator("#guide").is_hidden()  # its last step is not for classic devices
    visitor.picture("story")


def test_the_first_steps_lead_through_match_payload_and_resume_without_loss(
    visit: Callable[..., Visitor],
) -> None:
    visitor = visit()
    guide, page = visitor.page.locator("#guide"), visitor.page
    a, c = visitor.card("a"), visitor.card("c")
    guide.get_by_text("Connect a and c.").wait_for()
    guide.get_by_role("button", name="Do it for me").click()
    guide.get_by_text("Send something from a: it arrives at c.").wait_for()
    guide.get_by_role("button", name="Do it for me").click()
    c.logs("message ciao")
    guide.get_by_text("Drop a connection").wait_for()
    a.click("Drop")
    a.shows_state("dropped for 3 s, still matched with c")
    c.shows_state("matched with a, which is disconnected: payloads wait")
    c.send("are you there?")
    a.send("just a moment")
    visitor.picture("dropped")
    a.shows_state("matched with c, 110 km away")
    a.logs("resumed: the match with c continues, nothing is missing")
    a.logs("are you there?")
    c.logs("just a moment")
    counts = c.node.locator(
        ".counts",
        has_text=re.compile(r"Match \d+\. Sent 1, 1 delivered \(14 bytes\)\. Received 2 \(17 bytes\)\."),
    )
    counts.wait_for()
    guide.wait_for(state="hidden")
    page.locator("#leave-all").click()
    page.reload()
    page.locator(".card").first.wait_for()
    assert not guide.is_visible()


def test_files_travel_both_ways_byte_for_byte(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor = visit()
    matched(visitor, "a", "c")
    contents = {"a": bytes(range(256)) * 4 + b"a", "c": b"\0\xff" * 20_000}
    for (name, content), other in zip(contents.items(), "ca", strict=True):
        file = tmp_path / name
        file.write_bytes(content)
        visitor.card(name).files([file])
        visitor.card(other).logs(f"binary {len(content):,} bytes")
        row = visitor.card(other).node.locator(".log li.in", has_text="binary")
        with visitor.page.expect_download() as download:
            row.get_by_role("button", name="Download").click()
        assert download.value.path().read_bytes() == content


def test_devices_of_two_pages_match_and_an_id_is_one_device(visit: Callable[..., Visitor]) -> None:
    here, there = visit("#here@50,7"), visit("#there@50,7.5;dialect=classic")
    here.card("here").click("Connect")
    there.card("there").click("Connect")
    here.card("here").shows_state("matched with there")
    there.card("there").shows_state("matched with here")
    here.card("here").send("<b>ciao</b>")
    there.card("there").logs("device here says: <b>ciao</b>")
    there.card("there").send("ciao, tu")
    here.card("here").logs("ciao, tu")
    here.picture("two-pages")

    another = visit("#here@50,7")
    another.card("here").click("Connect")
    here.card("here").shows_state("not connected")
    here.card("here").node.locator(".problem", has_text="a newer connection has this device's id").wait_for()
    another.card("here").shows_state("matched with there")


def test_a_device_moved_by_mouse_or_keys_comes_into_reach(
    visit: Callable[..., Visitor],
) -> None:
    visitor = visit("#a@1,1&d@1,5&k@1,2.5;dialect=classic")
    page = visitor.page
    visitor.card("a").click("Connect")
    visitor.card("d").click("Connect")
    visitor.card("d").shows_state("waiting")
    pins = {name: page.locator(".pin", has_text=re.compile(f"^{name}$")) for name in "adk"}
    start, goal = pins["d"].bounding_box(), pins["a"].bounding_box()
    assert start
    assert goal
    page.mouse.move(start["x"] + 10, start["y"] + 10)
    page.mouse.down()
    page.mouse.move(goal["x"] + 60, goal["y"] + 30, steps=5)
    page.mouse.up()
    visitor.card("d").shows_state("matched with a")
    visitor.card("d").logs("locate")
    before = page.url
    moved = re.compile(r"#a@1\.\d+,1&d@")

    def moved_by_key() -> bool:
        pins["a"].press("ArrowUp")
        return moved.search(page.url) is not None

    eventually_sync(moved_by_key, what="the new latitude in the address")
    assert page.url != before
    assert page.evaluate("document.activeElement.textContent") == "a"

    visitor.card("k").click("Connect")
    visitor.card("k").shows_state("waiting")
    pins["k"].press("ArrowUp")  # a classic device cannot send its new position
    page.locator("#announcer", has_text="k is a classic device").wait_for()
    assert "k@1,2.5" in page.url


def test_the_address_holds_the_set_up_and_copied_code_runs(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.card("a").setup(tag="red & blue", radius="250000", id="my 'device'")
    page.locator("#add").click()
    page.locator("#share").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    assert page.url.endswith("#my%20'device'@1,1;tag=red%20%26%20blue;radius=250000&b@1,3&c@1,2&d@1,5&a@1,6")

    again = visit(page.url.partition("/#")[2].join(["#", ""]))
    card = again.card("my 'device'")
    card.setup(lat="1.1", id="original")
    card = again.card("original")
    card.click("Connect")
    card.shows_state("waiting")
    card.node.locator("details.code summary").click()

    visitor.card("my 'device'").node.locator("details.code summary").click()
    visitor.card("my 'device'").click("Copy websocat")
    websocat = page.evaluate("navigator.clipboard.readText()")
    assert """/device/connect?id=my+%27device%27&lat=1&lon=1&tag=red+%26+blue&radius=250000'""" in websocat
    visitor.card("my 'device'").click("Copy Python")
    code = page.evaluate("navigator.clipboard.readText()")
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment({}), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "matched with original\n"
        card.shows_state("matched with my 'device'")
        card.logs("ciao")
        card.send("ciao, codice")
        assert process.stdout.readline() == "original: ciao, codice\n"
    finally:
        process.kill()
        process.communicate()


def test_a_wrong_set_up_is_named_and_a_refusal_gives_its_reason(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    a = visitor.card("a")
    a.setup(lat="north")
    a.click("Connect")
    a.node.locator(".problem", has_text="Latitude: −90 to 90 degrees.").wait_for()
    a.shows_state("not connected")
    a.setup(lat="1", edge="http://127.0.0.1:9", dialect="classic")
    a.click("Connect")
    a.node.locator(".problem", has_text="nothing answers at 127.0.0.1:9").wait_for()
    # the page's own policy, for an edge that it was given no address of
    assert all("Content Security Policy" in each for each in visitor.errors), visitor.errors
    visitor.errors.clear()


def test_the_page_on_the_second_port_reads_every_service_and_shows_its_edge_once(
    visit: Callable[..., Visitor], whole: System
) -> None:
    visitor = visit(url=whole.legacy_url)
    strip = visitor.page.locator("#health")
    eventually_sync(
        lambda: strip.locator("[data-kind=good]").count() == 5, what="five services that are ready"
    )
    assert strip.locator("li").count() == 5


def test_the_strip_names_a_service_that_is_down_with_advice_until_it_is_back(
    visit: Callable[..., Visitor], whole: System
) -> None:
    visitor = visit(url=whole.url.replace("127.0.0.1", "localhost"))  # the same edge, not another
    strip, troubles = visitor.page.locator("#health"), visitor.page.locator("#troubles")
    journal = strip.locator("li", has_text="journal")
    journal.get_by_text("ready", exact=True).wait_for()
    eventually_sync(
        lambda: strip.locator("[data-kind=good]").count() == 5, what="five services that are ready"
    )
    assert strip.locator("li").count() == 5
    eventually_sync(lambda: troubles.text_content() == "", what="no trouble")
    whole.journal.kill()
    journal.get_by_text("down").wait_for()
    troubles.get_by_text("Start journal; make up starts everything.").wait_for()
    matched(visitor, "a", "c")  # devices are not affected
    visitor.picture("down")
    whole.journal.restart()
    journal.get_by_text("ready", exact=True).wait_for()
    troubles.get_by_text("journal").wait_for(state="detached")
    visitor.page.locator("#events").get_by_text("a connected to edge-0").first.wait_for()


def test_the_page_lists_edges_without_an_address_and_says_which_edge_holds_a_device(
    visit: Callable[..., Visitor], whole: System, start: Callable[..., Service]
) -> None:
    name = "edge <i>far</i>"
    bus = {"CLOUDMATCH_NATS_URL": whole.edge.env["CLOUDMATCH_NATS_URL"], "CLOUDMATCH_EDGE_NAME": name}
    far = start("edge", {**bus, "CLOUDMATCH_EDGE_MAX_CONNECTIONS": "1"})
    visitor = visit("#a@50,7")
    cluster = visitor.page.locator("#cluster")
    cluster.get_by_text("2 edges · 1 worker", exact=True).wait_for()
    cluster.locator("summary").click()
    cluster.get_by_role("row", name=re.compile("^edge-0 alive .* 0 ")).wait_for()
    visitor.card("a").click("Connect")
    visitor.card("a").node.locator(".counts", has_text="On edge-0. Sent 0").wait_for()
    with connect(far.url.replace("http", "ws") + "/device/connect?id=f&lat=50&lon=7"):
        row = cluster.locator("tr", has_text=name)
        row.get_by_text("full", exact=True).wait_for()
        row.get_by_text("1 of 1", exact=True).wait_for()
        visitor.page.locator("#troubles").get_by_text(f"Edge {name} is full: its limit is 1.").wait_for()
        visitor.picture("cluster")
        accessible(visitor)
    far.terminate()
    cluster.get_by_text("1 edge · 1 worker", exact=True).wait_for()
    visitor.page.locator("#troubles").get_by_text("is full").wait_for(state="detached")


def test_an_edge_without_addresses_of_services_shows_that_and_the_rest_works(
    visit: Callable[..., Visitor], whole: System, start: Callable[..., Service]
) -> None:
    bus = whole.edge.env["CLOUDMATCH_NATS_URL"]
    edge = start("edge", {"CLOUDMATCH_NATS_URL": bus, "CLOUDMATCH_EDGE_NAME": "lonely"})
    visitor = visit(url=edge.url)
    visitor.page.get_by_text(
        "This edge has no address for match-engine, journal, bridge-rabbit and analytics"
    ).wait_for()
    matched(visitor, "a", "c")
    visitor.card("a").send("ciao")
    visitor.card("c").logs("ciao")


# -- appearance and accessibility

LONG = "x" * 64
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"#{MARKUP.replace(' ', '%20').replace('=', '%3D')}@1,1&{LONG}@1,1.5&c@1,2&d@1,5"


@pytest.mark.parametrize(("name", "width", "scheme"), [("wide", 1600, "light"), ("phone", 320, "dark")])
def test_the_page_is_accessible_and_nothing_overflows(
    visit: Callable[..., Visitor], name: str, width: int, scheme: str
) -> None:
    visitor = visit(reduced_motion="reduce")
    page = visitor.page
    page.set_viewport_size({"width": width, "height": 900})
    visitor.picture(f"{name}-first")
    for each in "abcd":
        visitor.card(each).click("Connect")
    visitor.card("a").shows_state("matched with")
    visitor.card("d").node.locator(".why").wait_for()
    visitor.card("a").send("ciao")
    visitor.card("a").logs("delivered to")
    visitor.card("d").setup()
    visitor.card("d").node.locator("details.code summary").click()
    page.locator("#all-frames").check()
    for each in ("light", "dark"):
        page.emulate_media(color_scheme=each)
        visitor.picture(f"{name}-{each}")
    page.emulate_media(color_scheme=scheme)
    accessible(visitor)


def test_ids_and_payloads_are_shown_as_text_however_long(visit: Callable[..., Visitor]) -> None:
    visitor = visit(HOSTILE)
    page = visitor.page
    page.set_viewport_size({"width": 320, "height": 700})
    matched(visitor, MARKUP, LONG)
    visitor.card(LONG).send(MARKUP)
    visitor.card(MARKUP).logs(f"message {MARKUP}")
    visitor.card(LONG).send(json.dumps({"never ending": "y" * 50_000}))
    more = visitor.card(MARKUP).node.get_by_role("button", name="more characters")
    more.wait_for()
    page.locator("#events").get_by_text(MARKUP).first.wait_for()
    assert page.locator("main img").count() == 0
    visitor.picture("markup")
    accessible(visitor)
    more.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_is_reachable_by_keyboard(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    seen: list[str] = []
    while "All windows" not in seen and len(seen) < 99:
        page.keyboard.press("Tab")
        held = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
        seen.append(page.evaluate(held))
        if seen[-1] == "Connect: a":
            page.keyboard.press("Enter")
    visitor.card("a").shows_state("waiting")
    for wanted in ("Skip to the devices", "Do it for me", "Copy link", "Connect: d", "All windows"):
        assert wanted in seen
    assert any(name.startswith("Device a at latitude 1") for name in seen)
    page.locator("#skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "cards"
    assert visitor.card("d").node.is_visible()
    assert page.url.endswith("#a@1,1&b@1,3&c@1,2&d@1,5")


def test_the_pure_modules_pass_their_own_tests() -> None:
    folder = Path(__file__).parents[2] / "edge/dev-client/test"
    done = subprocess.run(
        [need("node", "nodejs"), "--test", *sorted(folder.glob("*.test.js"))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^. pass (\d+)$", done.stdout, re.MULTILINE)[1]) > 10
