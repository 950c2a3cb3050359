"""From words and lengths to the generator's prefix: text, length and neighbouring sounds."""
