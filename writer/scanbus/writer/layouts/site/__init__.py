"""Layouts of a site: templates, as data.

A template names the files of a layout and the nodes in each, by their paths. It is
parsed and checked here, and kept as text in every scan file that has it, so that
masters are rebuilt without the site's file. Pure.
"""

from scanbus.writer.layouts.site.ess import ReadTemplate, read_template
from scanbus.writer.layouts.site.parse import MAX_TEXT_BYTES, parse_stored
from scanbus.writer.layouts.site.profile import site_profile

__all__ = [
    "MAX_TEXT_BYTES",
    "ReadTemplate",
    "parse_stored",
    "read_template",
    "site_profile",
]
