//! Runs CI jobs on Kubernetes, a pod for each job.
fn main() {}
