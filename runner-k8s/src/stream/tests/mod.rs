//! Sessions against API servers made for the test, over real sockets; and against a real cluster.

mod cluster;
mod deadlines;
mod fake;
mod faults;
mod flow;
mod opening;
