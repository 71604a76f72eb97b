"""One file, one process; nobody imports a node: topology.py names its module as text."""
