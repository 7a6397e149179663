//! Brings the checkout into the state that the job wants, with the `git` of the helper image.
//!
//! ```text
//!   get ──► project (the directory)      git_dir (.git without git)   index, untracked (what git tracks)
//!     ├───► git ◄── environment          config (files of git)
//!     └───► clone, submodules, lfs
//! ```
//!
//! A fresh checkout takes two processes, `fetch` and `checkout`; GitLab Runner starts 12 to 16 before
//! it speaks to the network.

mod clone;
mod config;
mod environment;
mod get;
mod git;
mod git_dir;
mod index;
mod leave;
mod lfs;
mod module_config;
mod plain;
mod project;
mod scripts;
mod submodules;
mod untracked;

pub(crate) use get::{clear_worktree, get_sources};
pub(in crate::stages) use leave::clean_up;
pub(crate) use scripts::for_scripts;
pub(in crate::stages) use untracked::untracked;
