//! Runs CI jobs on Kubernetes, a pod for each job.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner_bin::main()
}
