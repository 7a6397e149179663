//! Getting the sources, as data.

use serde::{Deserialize, Serialize};

use super::SourceHooks;
use crate::job::ObjectFormat;
use crate::secret::Secret;

/// How to get the sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetSources {
    /// Which way.
    pub strategy: GitStrategy,
    /// URL without credentials; what `origin` is set to.
    pub url: String,
    /// User name and password for it, and for [`Self::login_origins`].
    pub login: Option<GitLogin>,
    /// Where `login` may be sent: `scheme://host[:port]`, http and https only. Whatever else a
    /// repository refers to (submodules, LFS servers) is asked without it.
    #[serde(default)]
    pub login_origins: Vec<String>,
    /// Send `login` without being asked first, which saves a request; git 2.46 and later
    /// (`FF_USE_GIT_PROACTIVE_AUTH`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proactive_login: bool,
    /// Let git authenticate everywhere in the job's scripts, not only in the checkout
    /// (`FF_GIT_URLS_WITHOUT_TOKENS`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub login_in_scripts: bool,
    /// Branch or tag, for messages.
    pub reference: String,
    /// Commit.
    pub sha: String,
    /// What to fetch.
    pub refspecs: Vec<String>,
    /// 0: everything.
    pub depth: u32,
    /// Object format of a fresh repository.
    pub object_format: ObjectFormat,
    /// Whether to check out at all (`GIT_CHECKOUT`).
    pub checkout: bool,
    /// Arguments of `git clean`; empty: no cleaning.
    pub clean_flags: Vec<String>,
    /// More arguments of `git fetch`.
    pub fetch_flags: Vec<String>,
    /// Use `git clone` where git can (2.49, `FF_USE_GIT_NATIVE_CLONE`), with these arguments more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_clone: Option<Vec<String>>,
    /// Value of `http.userAgent`.
    pub user_agent: String,
    /// Name of this fetch in the server's logs (`X-Gitaly-Correlation-ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Take bundles that the server offers (`FF_USE_GIT_BUNDLE_URIS`). Only `git clone` does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bundle_uris: bool,
    /// URLs that begin with the second text are to begin with the first (`url.<first>.insteadOf`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<(String, String)>,
    /// What to do about submodules. `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submodules: Option<Submodules>,
    /// Fetch the content of files in LFS, where there are any (`GIT_LFS_SKIP_SMUDGE`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
    /// Leave nothing of the job in the checkout at its end (`FF_ENABLE_JOB_CLEANUP`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean_up: bool,
    /// What is wrong with the job's settings; the stage says so and fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// PEM of a CA that git shall trust for [`Self::login_origins`].
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// The author's and the operator's commands around all this.
    #[serde(default)]
    pub hooks: Box<SourceHooks>,
}

/// How submodules are brought in (`GIT_SUBMODULE_*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodules {
    /// How far down.
    pub nesting: Nesting,
    /// Commits of each. 0: everything.
    pub depth: u32,
    /// Which ones, as path specifications. Empty: all.
    pub paths: Vec<String>,
    /// More arguments of `git submodule update`.
    pub update_flags: Vec<String>,
}

/// Whether submodules of submodules count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nesting {
    /// Those of the project itself.
    Normal,
    /// Theirs too.
    Recursive,
}

/// How the checkout is brought about (`GIT_STRATEGY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitStrategy {
    /// Reuse what is there.
    Fetch,
    /// Begin with nothing.
    Clone,
    /// Leave everything as it is.
    None,
    /// An empty directory.
    Empty,
}

/// Credentials for git, kept out of URLs and of `.git/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitLogin {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}
