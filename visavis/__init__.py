"""The command: imports everything, imported by nothing."""
