"""Times and amounts for people."""

from datetime import datetime


def moment(at: object) -> str:
    """Format ms since 1970 as local time; return anything else as text."""
    if isinstance(at, int | float):
        return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(at)


def duration(seconds: float) -> str:
    """``7`` → "7 s", ``372`` → "6 min 12 s", ``90000`` → "1 d 1 h": at most two units."""
    whole = int(seconds)
    amounts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(amounts) > 1 and not amounts[0][0]:
        del amounts[0]
    return " ".join(f"{amount} {unit}" for amount, unit in amounts[:2])


def count(number: int, one: str) -> str:
    """``1``, "edge" → "1 edge"; ``1200`` → "1,200 edges"."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"
