"""The journal: every fact, kept once, in order, and what the facts say of each device and match.

Pure: :mod:`ledger`, :mod:`segments`, :mod:`retention`, :mod:`selection`, :mod:`audit`.
Shells: :mod:`files`, :mod:`store` (TinyDB), :mod:`gateway` (HTTP), :mod:`worker`, :mod:`commands`,
:mod:`verification`.
"""
