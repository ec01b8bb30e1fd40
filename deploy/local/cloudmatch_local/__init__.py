"""Run CloudMatch on one machine: `up` starts everything, `rabbitmq` and `nats_server` a server each."""
