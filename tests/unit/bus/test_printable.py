"""What others have sent is shown on one line."""

import pytest

from cloudmatch_bus.contract.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("dev-42, caffè 温 'x' \\n", "dev-42, caffè 温 'x' \\n"),
        ("a\nb\r\x1b[2J\x00", r"a\nb\r\x1b[2J\x00"),
        ("\u200b\u2028\ud800\U000e0001", r"\u200b\u2028\ud800\U000e0001"),
    ],
)
def test_only_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.isprintable()
