"""Faults: mistakes of users, broken devices, disks and processes, and what a run makes of them."""
