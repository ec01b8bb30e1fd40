"""The bus: the contract every CloudMatch service shares, and the only door to NATS.

Pure: :mod:`subjects`, :mod:`frames`, :mod:`messages`, :mod:`streams`.
Shells: :mod:`connection`, :mod:`bucket`, :mod:`provision`, :mod:`facts`, :mod:`feed`.
What every process needs: :mod:`settings`, :mod:`service`, :mod:`health`, :mod:`listening`, :mod:`http`.
"""
