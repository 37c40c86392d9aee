"""Images and videos: reading, writing, drawing and tracking.

Images:
    images: conversion of files, arrays, tensors and PIL images to RGB pixels.
    image_header: size, orientation and completeness of image files, without decoding.
    download: download of images from web servers.
    inputs: input types of commands; the images in a folder or a JSON file.
    draw: drawing of skeletons, with draw_maps (heatmaps and PAFs).

Videos:
    video: frames of video files, cameras and streams.
    video_writer: writing of MP4 files.
    tracking: track ids.
    smoothing: One-Euro filter.
"""
