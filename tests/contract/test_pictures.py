"""The pictures in the READMEs exist, are small, say what they show, and load nothing."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = {".svg": 300_000, ".webp": 200_000}
NARROWEST = 800  # px: a README's column on GitHub
SMALLEST = 10.5  # px of text there
READMES = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("edge/*/README.md")]


def drawing(name: str) -> ElementTree.Element:
    return ElementTree.fromstring((ROOT / "docs" / name).read_text(encoding="utf-8"))  # noqa: S314 - our own file


def pictures(page: Path) -> dict[Path, str | None]:
    """The pictures that a page shows, with their alternative texts; None for another version of one."""
    text = page.read_text(encoding="utf-8")
    shown: dict[Path, str | None] = {
        page.parent / to: alt for alt, to in re.findall(r"!\[([^]]*)\]\((\S+?)\)", text)
    }
    for to in re.findall(r'<source [^>]*srcset="([^"]+)"', text):
        shown[page.parent / to] = None
    for tag in re.findall(r"<img [^>]+>", text):
        fields = dict(re.findall(r'([a-z]+)="([^"]*)"', tag))
        shown[page.parent / fields["src"]] = fields.get("alt", "")
    return shown


def test_every_picture_of_a_readme_exists_is_small_and_has_an_alternative_text() -> None:
    shown = {picture: alt for page in READMES for picture, alt in pictures(page).items()}
    assert ROOT / "docs/architecture.svg" in shown
    for picture, alt in shown.items():
        assert picture.stat().st_size <= MOST_BYTES[picture.suffix], picture
        assert alt is None or len(alt) > 20, picture


def test_the_picture_of_the_architecture_names_every_room_that_runs() -> None:
    rooms = re.search(r"^ROOMS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert rooms
    labels = " ".join("".join(text.itertext()) for text in drawing("architecture.svg").iter(f"{SVG}text"))
    for room in rooms[1].split():
        assert room in labels.lower(), room
    for each in (
        "up",
        "dn",
        "ev",
        "EVENTS",
        "JetStream",
        "RabbitMQ",
        "TinyDB",
        "Quix Streams",
        "windows",
        "REST",
    ):
        assert each in labels, each


@pytest.mark.parametrize("name", sorted(file.name for file in (ROOT / "docs").glob("*.svg")))
def test_a_drawing_is_well_formed_titled_legible_and_loads_nothing(name: str) -> None:
    root = drawing(name)
    assert root.find(f"{SVG}title") is not None
    used = {element.tag for element in root.iter()}
    assert not used & {f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject", f"{SVG}use"}
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert not re.search(r"@import|@font-face|url\(|\s(on[a-z]+|href|xlink:href|src)=", text)
    width = float(root.attrib["viewBox"].split()[2])
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\d+ )?([\d.]+)px", text)]
    assert min(sizes) * NARROWEST / width >= SMALLEST


def test_the_picture_of_the_architecture_follows_the_colour_scheme() -> None:
    light, _, dark = (
        (ROOT / "docs/architecture.svg").read_text(encoding="utf-8").partition("prefers-color-scheme: dark")
    )
    colours = set(re.findall(r"--[a-z-]+(?=: #)", light))
    assert len(colours) > 5
    assert set(re.findall(r"--[a-z-]+(?=: #)", dark)) == colours


def test_the_recorded_session_ends_with_a_payload_in_each_direction() -> None:
    rows = drawing("session.svg").findall(f"{SVG}g/{SVG}svg/{SVG}g/{SVG}g")
    last = [" ".join(row.itertext()) for row in rows if row.get("visibility") != "hidden"]
    windows = re.findall(r"bytes exchanged in the previous 10 seconds: (\d+)", "\n".join(last))
    assert sum(map(int, windows)) == len("ciaohello")
    for shown in (
        "make up",
        "CloudMatch is ready after",
        "matched with b,",
        "a ▸ ciao",
        "matched with a,",
        "b ▸ hello",
    ):
        assert any(shown in row for row in last), shown
    assert not any("connection lost" in row for row in last)
