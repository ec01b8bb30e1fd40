"""Run CloudMatch on one machine: `up` starts everything, `rabbitmq` a private RabbitMQ node."""
