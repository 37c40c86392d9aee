"""Images to maps on some runtime (engines), and from there to poses (predictor)."""
