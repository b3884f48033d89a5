"""nbval, made good."""
