"""Small nodes that behave well or badly on purpose."""
