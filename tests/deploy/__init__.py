"""Deployment: what Kubernetes is told, and the images, held to rules without a cluster."""
