"""Models in, results out: no processes, no sockets, no clocks of their own."""
