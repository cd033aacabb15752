"""Getting published data and knowing that it is the published data: lock files, downloads, checks."""
