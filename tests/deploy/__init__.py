"""Deployment: manifests and images, tested without a cluster."""
