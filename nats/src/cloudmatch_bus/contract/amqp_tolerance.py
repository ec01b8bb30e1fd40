"""Read what RabbitMQ delivers, whatever a producer has put into it. `tolerate` takes a driver's decoders.

RabbitMQ passes texts that are no UTF-8, and any number as a time. A driver that cannot decode one ends the
connection, and with the next one the message comes again, for ever.
"""

from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from cloudmatch_bus.contract.amqp_names import MAX_SHORT, fitted

Decode = Callable[[bytes], tuple[int, Any]]  # returns how many bytes it took, and the value

UNREADABLE_HEADERS = "cloudmatch-unreadable"  # in place of headers that cannot be decoded: their bytes
LATEST = datetime.max.replace(microsecond=0, tzinfo=UTC)  # in place of a time that cannot be decoded
SHOWN = 1000  # characters of a header that cannot be encoded


def tolerate(decoders: MutableMapping[str, Decode]) -> None:
    """Replace decoders of properties, such as pamqp's ``decode.METHODS``, by ones that do not fail."""
    replaced = {
        "shortstr": _or(decoders["shortstr"], lambda value: (1 + value[0], _text(value[1 : 1 + value[0]]))),
        "timestamp": _or(decoders["timestamp"], lambda _: (8, LATEST)),
        "table": _or(decoders["table"], _bytes_of_table),
    }
    decoders.update(replaced)


def _or(decode: Decode, otherwise: Decode) -> Decode:
    def tolerant(value: bytes) -> tuple[int, Any]:
        try:
            return decode(value)
        except Exception:  # noqa: BLE001 # whatever the driver does not expect, such as tables that are too deep
            return otherwise(value)

    return tolerant


def _text(value: bytes) -> str:
    """Return what is no UTF-8 as a text that can be encoded again, different for different bytes."""
    return fitted(value.decode("ascii", "backslashreplace"), MAX_SHORT)


def _bytes_of_table(value: bytes) -> tuple[int, dict[str, bytearray]]:
    end = 4 + int.from_bytes(value[:4])
    return end, {UNREADABLE_HEADERS: bytearray(value[4:end])}


def encodable(headers: Mapping[str, Any], encode: Callable[[dict[str, Any]], bytes]) -> dict[str, Any]:
    """Return headers that a driver can encode: as text where it cannot, such as decimals of 32 bits.

    Args:
        encode: encodes a table, such as pamqp's ``encode.field_table``.
    """

    def fits(name: str, value: object) -> bool:
        try:
            encode({name: value})
        except Exception:  # noqa: BLE001 # as in `tolerate`
            return False
        return True

    return {name: value if fits(name, value) else _shown(value) for name, value in headers.items()}


def _shown(value: object) -> str:
    try:
        return repr(value)[:SHOWN]
    except RecursionError:
        return type(value).__name__
