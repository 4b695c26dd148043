"""Importing a dump of the original server's database: what `manage.py import_circus` does.

What is here already stays as it is: nothing of a dump overwrites it. Only cases grow, by revisions at their end.
"""
