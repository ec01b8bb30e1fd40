"""What decoders raise for bytes that are no message of ours.

Whoever decodes what others have sent catches all three: JSON may be nested so deeply that the decoder stops,
and texts of JSON and tokens of subjects may be no UTF-8.
"""

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
