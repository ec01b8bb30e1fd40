"""How many bytes devices exchanged in each window of time: RabbitMQ in, windows out by REST and a live chart.

Pure: :mod:`sizes`, :mod:`ticks`, :mod:`windows`, :mod:`ledger`. Shells: :mod:`source` (RabbitMQ → Kafka),
:mod:`pipeline` (Kafka → windows), :mod:`archive` (windows on disk), :mod:`gateway` (HTTP), :mod:`worker`.
Beside them :mod:`pulse` (what the source says of itself), :mod:`topics`, and :mod:`broker`, a small
Kafka-protocol broker for development and tests.
"""
