"""Ids of devices and apps, as different and as long as they may be, for property tests."""

from hypothesis import strategies as st

MAX_ID = 64  # characters
CHARACTERS = st.characters(exclude_categories=["Cs"])  # surrogates are no text
WIDE = st.characters(min_codepoint=0x10000)  # four bytes each

longest = st.text(WIDE, min_size=MAX_ID, max_size=MAX_ID)
ids = st.text(CHARACTERS, min_size=1, max_size=MAX_ID) | longest
