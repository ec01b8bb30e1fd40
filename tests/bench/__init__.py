"""Benchmarks of throughput, latency and cost; README.md describes them."""
