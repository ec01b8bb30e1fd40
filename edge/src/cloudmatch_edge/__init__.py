"""edge: devices' sockets to subjects and back.

Pure: :mod:`parameters`, :mod:`classic`, :mod:`window`, :mod:`pages`. Shells: :mod:`device`, :mod:`relay`,
:mod:`gateway`.
"""
