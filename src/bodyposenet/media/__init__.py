"""Images and videos: reading, downloading, drawing of people, tracking and smoothing."""
