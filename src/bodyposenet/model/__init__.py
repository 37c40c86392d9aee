"""People to target maps, the network that learns them, its loss and its files."""
