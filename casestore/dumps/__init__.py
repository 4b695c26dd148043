"""Reading what other servers' databases were dumped into: files of records, a record at a time. Plain Python."""
