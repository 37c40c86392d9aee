"""What happens to files that are damaged, odd or malicious."""
