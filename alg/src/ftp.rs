//! FTP (RFC 959, RFC 2428). Skeleton: replaced by its author.
