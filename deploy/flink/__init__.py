"""Flink on this machine: brings it, starts a cluster with worker pools, and proves a run on it."""
