"""Data: COCO annotations, masks, TFRecords, training samples and drawn people."""
