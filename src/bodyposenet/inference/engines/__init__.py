"""Model files behind one protocol: uint8 images in, maps out, on any runtime."""
