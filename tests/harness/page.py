"""The dev client in a real browser: a whole system, Chromium, and pages."""

import base64
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright

import harness
from harness.processes import ROOT, free_port
from harness.programs import need
from harness.services import Service

PICTURES = ROOT / ".run/screenshots"
WAIT = 15_000  # ms allowed for anything expected


class System(NamedTuple):
    """The running services, and the addresses of the page."""

    edge: Service
    journal: Service
    url: str
    legacy_url: str  # the same edge by its second port


@contextlib.contextmanager
def system(bus: str, amqp: str, kafka: dict[str, str]) -> Iterator[System]:
    """Run all services, with their addresses given to the edge's page, which may read them."""
    names = ("edge", "match-engine", "journal", "bridge-rabbit", "analytics")
    ports = {name: free_port() for name in names}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    legacy = free_port()
    origins = [
        f"http://{host}:{port}" for port in (ports["edge"], legacy) for host in ("127.0.0.1", "localhost")
    ]
    env = {
        "CLOUDMATCH_NATS_URL": bus,
        "CLOUDMATCH_AMQP_URL": amqp,
        "CLOUDMATCH_HTTP_ORIGINS": ",".join(origins),
        "CLOUDMATCH_EDGE_LEGACY_PORT": str(legacy),
        "CLOUDMATCH_EDGE_SERVICES": ",".join(f"{name}={url}" for name, url in urls.items()),
        **{f"CLOUDMATCH_{name.upper().replace('-', '_')}_PORT": str(port) for name, port in ports.items()},
        **kafka,
    }
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(harness.service(name, env, ready=False, deadline=40)) for name in names
        }
        for each in running.values():
            each.wait_ready(40)
        yield System(running["edge"], running["journal"], urls["edge"], f"http://127.0.0.1:{legacy}")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium, headless. If it is missing: skip, or fail if CI is set."""
    path = need("chromium", "chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Visitor:
    """A page in a browser context of its own, loaded once `ready` is there. Collects errors of the page."""

    def __init__(self, browser: Browser, url: str, ready: str = ".card", **options: Any) -> None:
        self._context = browser.new_context(
            viewport={"width": 1280, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(WAIT)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.goto(url)
        self.page.locator(ready).first.wait_for()

    def _on_console(self, message: Any) -> None:
        # shown on the page anyway: a service is down, or a device was refused
        expected = ("Failed to load resource", "WebSocket connection to", "blocked by CORS policy")
        if message.type == "error" and not any(each in message.text for each in expected):
            self.errors.append(message.text)

    def card(self, name: str) -> "Card":
        """Return the card of a device."""
        heading = self.page.locator("h3", has_text=name).and_(
            self.page.get_by_role("heading", name=name, exact=True)
        )
        return Card(self.page.locator(".card", has=heading))

    def picture(self, name: str) -> None:
        """Save a screenshot of the whole page."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def documented(self, name: str) -> None:
        """Save what is in view, in both colour schemes, for a README: ``make screenshots`` keeps it."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        browser = self._context.new_cdp_session(self.page)
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            answer = browser.send("Page.captureScreenshot", {"format": "webp", "quality": 90})
            (PICTURES / f"{name}-{scheme}.webp").write_bytes(base64.b64decode(answer["data"]))
        self.page.emulate_media(color_scheme="null", reduced_motion="null")

    def close(self) -> None:
        """Close the page; fail if it reported errors."""
        self._context.close()
        assert self.errors == [], self.errors


class Card:
    """A device's card."""

    def __init__(self, node: Locator) -> None:
        self.node = node

    def click(self, name: str) -> None:
        """Press a button."""
        self.node.get_by_role("button", name=name, exact=name != "Connect" and name != "Leave").first.click()

    def shows_state(self, words: str) -> None:
        """Wait until its state has these words."""
        self.node.locator(".state", has_text=words).wait_for(timeout=WAIT)

    def logs(self, text: str) -> None:
        """Wait until a line of its log has this text."""
        self.node.locator(".log li", has_text=text).first.wait_for(timeout=WAIT)

    def log(self) -> list[str]:
        """Return the lines of its log."""
        return self.node.locator(".log li .content").all_text_contents()

    def send(self, text: str) -> None:
        """Send a payload."""
        self.node.get_by_label("Payload").fill(text)
        self.click("Send")

    def files(self, paths: Sequence[Path]) -> None:
        """Send files."""
        self.node.locator("input[type=file]").set_input_files(list(paths))

    def setup(self, **fields: str) -> None:
        """Fill in its set-up."""
        details = self.node.locator("details.setup")
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        for name, value in fields.items():
            field = details.locator(f"[name={name}]")
            field.select_option(value) if name == "dialect" else field.fill(value)


def matched(visitor: Visitor, one: str, other: str) -> None:
    """Connect two devices of a page, and wait until they are matched."""
    visitor.card(one).click("Connect")
    visitor.card(other).click("Connect")
    visitor.card(one).shows_state(f"matched with {other[:24]}")
    visitor.card(other).shows_state(f"matched with {one[:24]}")


def accessible(visitor: Visitor) -> None:
    """Check the page with axe-core, and that it does not scroll sideways."""
    page = visitor.page
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
