"""Data models of the spec files, with the keys of TAO's JSON and YAML files."""
