"""S3: images and thumbnails."""
