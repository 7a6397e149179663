//! What is made from the command line's description: manual pages, and the version's lines.

use std::path::Path;
use std::process::ExitCode;

use crate::version::{BRANCH, BUILT_AT, REVISION, VERSION};

/// The lines that scripts read of `gitlab-runner --version`.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(super) fn version() {
    println!("Version:      {VERSION}");
    println!("Git revision: {REVISION}");
    println!("Git branch:   {BRANCH}");
    println!("GO version:   none (this is Podwright, written in Rust)");
    println!("Built:        {BUILT_AT}");
    println!("OS/Arch:      {}/{}", std::env::consts::OS, std::env::consts::ARCH);
}

/// Writes a page for the program and for each command.
#[expect(clippy::print_stderr, reason = "a person is watching")]
pub(super) fn man(command: clap::Command, directory: &Path) -> ExitCode {
    let made = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright man: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
