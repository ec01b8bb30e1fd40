"""The bridge: the size of every payload, from the bus to RabbitMQ.

Pure: :mod:`sizes`, :mod:`letters`. Shells: :mod:`rabbit` (aio-pika), :mod:`worker`, :mod:`commands`.
"""
