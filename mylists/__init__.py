"""My lists: the cases or series that somebody keeps together. Searching them comes with the search itself."""
