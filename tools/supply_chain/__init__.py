"""What the locks and the image contain."""
