"""Words to features: the text encoders."""
