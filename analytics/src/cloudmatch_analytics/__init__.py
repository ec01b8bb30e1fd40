"""How many bytes devices exchanged in each window of time: RabbitMQ in, windows out by REST and a live chart.

Pure: :mod:`sizes`, :mod:`records`, :mod:`ticks`, :mod:`windows`; :mod:`ledger`, with a lock around them.
Shells: :mod:`source` (RabbitMQ → Kafka), :mod:`pipeline` (Kafka → sums → Kafka), :mod:`results` (Kafka →
ledger), :mod:`archive` (slices on disk), :mod:`gateway` and :mod:`page` (HTTP), :mod:`worker`.
Beside them :mod:`pulse` (what the source says of itself), :mod:`topics`, and :mod:`broker`, a small
Kafka-protocol broker for development and tests.
"""
