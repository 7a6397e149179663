//! What is made from the command line's description: manual pages, and the version's lines.

use std::path::Path;
use std::process::ExitCode;

/// The commit, where the build was told.
pub(super) const REVISION: &str = match option_env!("PODWRIGHT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The lines that scripts read of `gitlab-runner --version`.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(super) fn version() {
    println!("Version:      {}", env!("CARGO_PKG_VERSION"));
    println!("Git revision: {REVISION}");
    println!("Git branch:   {}", option_env!("PODWRIGHT_BRANCH").unwrap_or("unknown"));
    println!("GO version:   none (this is Podwright, written in Rust)");
    println!("Built:        {}", option_env!("PODWRIGHT_BUILT_AT").unwrap_or("unknown"));
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
