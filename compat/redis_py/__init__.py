"""The tests of redis-py, from its own source distribution, against a node that does not lead."""
