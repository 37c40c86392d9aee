"""The spec files as checked models, 1:1 with TAO's JSON and YAML."""
