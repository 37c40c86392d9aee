"""A trained network to a narrower one: TAO's threshold rule on a dependency graph."""
