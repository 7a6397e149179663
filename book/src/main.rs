//! Builds the book of `docs/` and checks every link of the repository's documents.
//!
//! * `book` builds into `target/book` and checks; `book check` checks the documents alone, without building.
//! * `book preprocess` is what `book.toml` names as a preprocessor, so that `mdbook build` and `mdbook serve` make the same
//!   pages.
//!
//! Addresses of other sites are not fetched: CI must not fail because somebody else's server is away.

mod documents;
mod pages;
mod preprocess;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use mdbook_driver::MDBook;
use mdbook_driver::config::Config;

/// The name of our preprocessor in `book.toml`.
const PREPROCESSOR: &str = "repository-links";

fn main() -> ExitCode {
    match run() {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            for line in &broken {
                eprintln!("{line}");
            }
            eprintln!("{} broken links", broken.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; what comes back are the broken links, one line each.
fn run() -> Result<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    match arguments.next().as_deref() {
        None => {
            let mut broken = documents::check(&root)?;
            let out = build(&root)?;
            let mut pages = 0;
            broken.extend(pages::check(&out, &mut pages)?);
            println!("{pages} pages in {}", out.display());
            Ok(broken)
        }
        Some("check") => documents::check(&root),
        // mdBook asks `supports RENDERER` first; any will do.
        Some("preprocess") => match arguments.next() {
            Some(_) => Ok(Vec::new()),
            None => preprocess::speak_with_mdbook().map(|()| Vec::new()),
        },
        Some(other) => bail!("unknown command `{other}`: use no argument, `check` or `preprocess`"),
    }
}

/// Builds the book; returns the directory it is in.
fn build(root: &Path) -> Result<PathBuf> {
    let mut config = Config::from_disk(root.join("book.toml"))?;
    // The same preprocessor without a cargo in between.
    let program = std::env::current_exe().context("the path of this program is not known")?;
    config.set(
        format!("preprocessor.{PREPROCESSOR}.command"),
        format!("{} preprocess", program.display()),
    )?;
    let book = MDBook::load_with_config(root, config)?;
    book.build()?;
    Ok(book.build_dir_for("html"))
}
