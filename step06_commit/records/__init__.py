"""Containers on record: what is known of each, who stays with it, what it has written."""
