"""The live chart of analytics in Chromium, with a quarter of an hour of sizes behind it."""

import asyncio
import math
import random
import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe

from harness import KafkaBroker, service
from harness.analytics import publishing
from harness.page import Visitor, chromium

pytestmark = pytest.mark.servers
SPAN, STEP = 800, 5  # s; the page shows 900
DEVICES = ("anna", "bruno", "carla", "dino")


async def publish(amqp_url: str) -> list[int]:
    """Publish what four devices sent in the last minutes; return the sizes."""
    begin, sizes = time.time_ns() // 10**6 - SPAN * 1000, []
    chance = random.Random(2019)  # noqa: S311 # no secret
    async with publishing(amqp_url, "demo") as publisher:
        for second in range(0, SPAN - 2 * STEP, STEP):
            for i, sender in enumerate(DEVICES):
                wave = 1.1 + math.sin(second / (40 + 17 * i) + i)
                sizes.append(round(400 * wave * chance.uniform(0.5, 1.5)))
                await publisher.size(sizes[-1], sender=sender, at=begin + second * 1000)
    return sizes


def test_a_backlog_shows_as_windows_with_every_byte_and_the_page_is_accessible(
    shared_amqp_url: str, shared_kafka_broker: KafkaBroker
) -> None:
    sizes = asyncio.run(publish(shared_amqp_url))  # before anyone consumes them: none will be late
    settings = {"CLOUDMATCH_AMQP_URL": shared_amqp_url, **shared_kafka_broker.settings}
    with service("analytics", settings, deadline=60) as analytics, chromium() as browser:
        visitor = Visitor(browser, f"{analytics.url}/", ready="#chart canvas")
        page = visitor.page
        page.locator("#state[data-kind=good]").wait_for()
        page.locator("#total-messages", has_text=f"{len(sizes)} payloads").wait_for()
        assert page.locator("select[name=device] option").count() == 1 + len(DEVICES)
        page.set_viewport_size({"width": 1280, "height": 700})
        visitor.documented("chart")
        page.locator("#table summary").click()
        cells = page.locator("#rows tr td:nth-child(4)").all_text_contents()
        assert sum(int(re.sub(r"\D", "", cell)) for cell in cells) == sum(sizes)
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
        visitor.close()
