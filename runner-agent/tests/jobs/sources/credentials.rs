//! Where the job's token is, and where it is not.
