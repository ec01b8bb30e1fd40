"""The bridge: the size of every payload, from the bus to RabbitMQ.

Pure: :mod:`core`. I/O: :mod:`publisher`, :mod:`dead_letter_queue` and :mod:`confirms` (aio-pika and aiormq),
:mod:`service`, :mod:`cli`.
"""
