"""How the bus names the token by which a client resumes its session: by its hash.

Only the client and its edge know the token. Whoever reads requests or records can resume nothing.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256

PREFIX = "sha256:"  # no token of a client contains a colon


def digest(token: str) -> str:
    """Return the hash of a token; itself if it is one, or empty (there is no session to resume)."""
    if not token or token.startswith(PREFIX):
        return token
    return PREFIX + urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode("ascii")


def same(one: str, other: str) -> bool:
    """Whether two values name one token. Edges of earlier versions send tokens as they are."""
    return bool(one) and digest(one) == digest(other)
