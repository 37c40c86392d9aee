"""Many images, on several processes of one machine or on a cluster."""
