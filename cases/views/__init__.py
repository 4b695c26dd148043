"""The endpoints of cases, series, blobs and projects."""
