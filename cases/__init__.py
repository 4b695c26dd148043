"""Projects, series, cases, revisions, labels and their voxels."""
