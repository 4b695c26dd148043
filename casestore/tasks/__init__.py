"""Background work as its owner sees it: one row that holds state, progress and result."""
