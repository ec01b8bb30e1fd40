"""How large numbers in messages may be. Decoders refuse what is beyond, so that nobody else has to.

Clocks may be wrong by days and jump, so that no time is compared with that of the reader.
"""

from typing import Annotated

from msgspec import Meta

EXACT = 2**53  # below it, all readers of JSON know an integer exactly
YEAR_2100 = 4_102_444_800_000  # ms since 1970

# of matches, connections (µs), revisions, payloads, processes (µs)
Number = Annotated[int, Meta(ge=0, lt=EXACT)]
Time = Annotated[int, Meta(ge=0, le=YEAR_2100)]  # ms since 1970
Size = Annotated[int, Meta(ge=0, lt=2**31)]  # bytes of a payload
Amount = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # that a client of 2019 reports: as it ever could
Count = Annotated[int, Meta(ge=0, le=2**40)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Metres = Annotated[float, Meta(ge=0)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
