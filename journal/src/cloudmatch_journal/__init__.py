"""The journal: every fact, stored once and in order, and the state of each device and match folded from them.

Pure: :mod:`core`. I/O: :mod:`files`, :mod:`segment_database` (TinyDB), :mod:`sealed_segments`, :mod:`store`,
:mod:`bookkeeper`, :mod:`journal`, :mod:`http_api`, :mod:`service`, :mod:`cli`, :mod:`verification`.
"""
