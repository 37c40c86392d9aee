"""The commands of `bpnet`, one module each, and the framework of their options."""
