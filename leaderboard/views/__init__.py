"""A module a page; each has ``show()``."""
