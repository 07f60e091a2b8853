"""The result of a study as Markdown and figures."""
