"""Where models run: drivers that start, stop and watch servers, and what they make for that."""
