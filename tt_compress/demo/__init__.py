"""A local page that shows trained models side by side."""
