"""TAO's methods, reimplemented with NumPy and OpenCV, as baselines and for tests."""
