"""Clusters on this machine: folders, configurations and node processes."""
