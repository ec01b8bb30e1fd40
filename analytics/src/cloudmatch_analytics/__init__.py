"""How many bytes devices exchanged in each window of time: RabbitMQ in, windows out by REST and a live chart.

Pure: :mod:`core`; :mod:`window_store`, with a lock around it. I/O: :mod:`source` (RabbitMQ → Kafka),
:mod:`pipeline` (Kafka → sums → Kafka), :mod:`results` (Kafka → window store), :mod:`archive` (SQLite),
:mod:`http_api`, :mod:`service` and :mod:`supervisor`. Beside them :mod:`source_status`, :mod:`topics`, and
:mod:`embedded_broker`, a small Kafka-protocol broker for development and tests.
"""
