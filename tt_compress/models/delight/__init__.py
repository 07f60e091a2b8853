"""DeLighT, an encoder-decoder of deep and light transformations."""
