"""Texts of others as they may be shown: on one line, without control of a terminal."""


def printable(text: str) -> str:
    """Escape what would end a line or control a terminal."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])
