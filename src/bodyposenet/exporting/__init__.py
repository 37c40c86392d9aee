"""A trained network to a file for other runtimes, checked against the network."""
