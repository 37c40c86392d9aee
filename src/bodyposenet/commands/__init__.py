"""The sub-tasks, a module each: its flags, and its work from top to bottom."""
