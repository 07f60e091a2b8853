"""Settings of the documentation site.

pip install -e '.[docs]'
python -m sphinx -W docs build/docs   # then open build/docs/index.html
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# For the kernels of the notebooks.
os.environ['PYTHONPATH'] = str(ROOT)

from docs import (  # noqa: E402
  configurations,
  decision,
  methods,
  notebooks,
  studies,
)

project = 'tt_compress'
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
# The latter is a part of another page.
exclude_patterns = ['README.md', 'generated/decision.md']
myst_enable_extensions = ['dollarmath', 'strikethrough']
# Other formats than HTML do not strike text out.
suppress_warnings = ['myst.strikethrough']
# Links to sections of the same page.
myst_heading_anchors = 3
# Flags keep their two dashes, and names of options their straight quotes.
smartquotes = False
nb_execution_mode = 'cache'
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
html_static_path = ['static']
html_css_files = ['site.css']
html_theme = 'pydata_sphinx_theme'
html_title = 'tt_compress'
html_show_sourcelink = False
html_theme_options = {
  'navigation_with_keys': False,
  'show_toc_level': 2,
  'secondary_sidebar_items': ['page-toc'],
}


def setup(app):
  """Writes the pages that are made from code, results and notebooks."""
  folder = ROOT / 'docs' / 'generated'
  for pages in (methods, decision, configurations, studies, notebooks):
    pages.write(ROOT, folder)
  app.connect('source-read', _link)


def _link(app, name, source):
  """Links to tables in `results/` lead to their pages of the site."""
  source[0] = source[0].replace('](../results/', '](/generated/studies/')
