"""Mongo-style filters: text into a syntax tree (`grammar`), the tree into SQL conditions (`translate`), and orders.

`values`, `keys`, `grammar`, `regex` and `description` are plain Python. A filter only ever narrows what a queryset lets
a user see.
"""
