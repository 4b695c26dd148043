"""Exports of cases as archives that ITK and 3D Slicer open."""
