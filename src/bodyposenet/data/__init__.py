"""Datasets: COCO annotations, masks, TFRecords, augmentation and training samples."""
