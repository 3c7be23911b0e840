"""Zones: which process may talk to which, and the firewalls made from that."""
