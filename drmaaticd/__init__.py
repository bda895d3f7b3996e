"""A cluster's head node as a self-service job API: one process, one state folder."""

__version__ = "0.1.0"
