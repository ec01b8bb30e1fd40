"""How many bytes devices exchanged in each window of time: RabbitMQ in, windows out by REST and a live chart.

Pure: :mod:`sizes`, :mod:`ticks`, :mod:`windows`. Shells: :mod:`source` (RabbitMQ → Kafka),
:mod:`pipeline` (Kafka → windows), :mod:`archive` (windows on disk), :mod:`gateway` (HTTP), :mod:`worker`.
Beside them :mod:`topics` and :mod:`broker`, a small Kafka-protocol broker for development and tests.
"""

import warnings

# quixstreams imports confluent-kafka's schema registry client, which nothing here uses
warnings.filterwarnings("ignore", message="The httpx module is deprecated")
