"""Attacks on running gateways and clusters, and how a neighbour is served meanwhile."""
