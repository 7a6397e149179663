//! The program that runs one job: [`own_executor::Processes`] starts it.

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| anyhow::anyhow!("usage: own-executor DIRECTORY"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(own_executor::supervise(directory))?;
    Ok(())
}
