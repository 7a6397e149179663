//! Small real repositories, made with the `git` program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::server::Inner;

/// A repository that the server has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repo(Arc<Data>);

#[derive(Debug)]
struct Data {
    path: String,
    dir: PathBuf,
    refs: BTreeMap<String, Reference>,
    access: Access,
    format: &'static str,
    lfs: BTreeMap<String, Bytes>,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Jobs of the project.
    Project,
    /// Jobs of any project (GitLab's allowlist of job tokens).
    Jobs,
    /// Everybody.
    Public,
}

#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) sha: String,
    pub(super) pipeline: u64,
    pub(super) tag: bool,
}

impl Repo {
    /// `group/project`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The commit a branch or tag points at.
    #[must_use]
    pub fn sha(&self, branch_or_tag: &str) -> Option<&str> {
        self.0.refs.get(branch_or_tag).map(|found| found.sha.as_str())
    }

    /// The bare repository's directory. It is removed with the server.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// `sha1` or `sha256`.
    pub(super) fn format(&self) -> &'static str {
        self.0.format
    }

    pub(super) fn access(&self) -> Access {
        self.0.access
    }

    /// The content of a file in LFS, by its SHA-256.
    pub(super) fn lfs(&self, oid: &str) -> Option<Bytes> {
        self.0.lfs.get(oid).cloned()
    }

    pub(super) fn reference(&self, name: &str) -> Option<&Reference> {
        self.0.refs.get(name)
    }
}

/// Makes a [`Repo`]; commits go onto the branch chosen last, `main` at first.
///
/// Author, committer and dates are fixed, so the same calls make the same hashes.
///
/// ```
/// use runner_testkit::gitlab::{GitLab, RepoBuilder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let gitlab = GitLab::start().await?;
/// let plan: RepoBuilder<'_> = gitlab.repo("group/app");
/// let repo = plan
///     .commit("first", [("README", "hello\n")])
///     .tag("v1")
///     .branch("topic")
///     .commit("second", [("src/lib.rs", "")])
///     .create()
///     .await?;
/// assert_eq!(repo.sha("v1"), repo.sha("main"));
/// assert_ne!(repo.sha("topic"), repo.sha("main"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is made before `create`"]
pub struct RepoBuilder<'a> {
    server: &'a Arc<Inner>,
    path: String,
    /// Input of `git fast-import`.
    stream: Vec<u8>,
    branch: String,
    branches: Vec<String>,
    tags: Vec<(String, String)>,
    commits: u64,
    access: Access,
    format: &'static str,
    lfs: BTreeMap<String, Bytes>,
}

/// 2026-01-01; each commit is a minute later.
const EPOCH: u64 = 1_767_225_600;

impl<'a> RepoBuilder<'a> {
    pub(super) fn new(server: &'a Arc<Inner>, path: String) -> Self {
        Self {
            server,
            path,
            stream: Vec::new(),
            branch: "main".into(),
            branches: Vec::new(),
            tags: Vec::new(),
            commits: 0,
            access: Access::Project,
            format: "sha1",
            lfs: BTreeMap::new(),
        }
    }

    /// Objects have SHA-256 names.
    pub fn sha256(mut self) -> Self {
        self.format = "sha256";
        self
    }

    /// Jobs of every project may read it.
    pub fn readable_by_jobs(mut self) -> Self {
        self.access = Access::Jobs;
        self
    }

    /// Everybody may read it, without a token.
    pub fn public(mut self) -> Self {
        self.access = Access::Public;
        self
    }

    /// Puts a submodule into the last commit; its `.gitmodules` is a file like any other.
    pub fn submodule(mut self, path: &str, sha: &str) -> Self {
        self.stream.extend_from_slice(format!("M 160000 {sha} {path}\n").as_bytes());
        self
    }

    /// Puts a file into the last commit whose content is in LFS; `.gitattributes` is a file like any
    /// other.
    pub fn lfs_file(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let digest = Sha256::digest(&content);
        let oid = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n",
            content.len()
        );
        let head = format!("M 100644 inline {path}\ndata {}\n{pointer}\n", pointer.len());
        self.stream.extend_from_slice(head.as_bytes());
        self.lfs.insert(oid, content);
        self
    }

    /// A commit that adds or replaces these files. Those that begin with `#!` are executable.
    pub fn commit<P: AsRef<str>, C: AsRef<[u8]>>(
        mut self,
        message: &str,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Self {
        let time = EPOCH + 60 * self.commits;
        self.commits += 1;
        let mut head = String::new();
        let who = format!("Ada Example <ada@example.com> {time} +0000");
        let _ = write!(
            head,
            "commit refs/heads/{}\nauthor {who}\ncommitter {who}\ndata {}\n{message}\n",
            self.branch,
            message.len(),
        );
        self.stream.extend_from_slice(head.as_bytes());
        for (path, content) in files {
            let (path, content) = (path.as_ref(), content.as_ref());
            let mode = if content.starts_with(b"#!") { "100755" } else { "100644" };
            let head = format!("M {mode} inline {path}\ndata {}\n", content.len());
            self.stream.extend_from_slice(head.as_bytes());
            self.stream.extend_from_slice(content);
            self.stream.push(b'\n');
        }
        if !self.branches.contains(&self.branch) {
            self.branches.push(self.branch.clone());
        }
        self
    }

    /// Makes a branch of the current one and goes there; goes there if it exists.
    pub fn branch(mut self, name: &str) -> Self {
        if !self.branches.iter().any(|known| known == name) {
            let head = format!("reset refs/heads/{name}\nfrom refs/heads/{}\n\n", self.branch);
            self.stream.extend_from_slice(head.as_bytes());
            self.branches.push(name.to_owned());
        }
        self.branch = name.to_owned();
        self
    }

    /// A tag at the current commit.
    pub fn tag(mut self, name: &str) -> Self {
        let head = format!("reset refs/tags/{name}\nfrom refs/heads/{}\n\n", self.branch);
        self.stream.extend_from_slice(head.as_bytes());
        self.tags.push((name.to_owned(), self.branch.clone()));
        self
    }

    /// Makes it, and a pipeline for each branch and tag.
    ///
    /// # Errors
    /// When `git` is not there or refuses, e.g. because a name is not allowed.
    pub async fn create(mut self) -> io::Result<Repo> {
        let dir = self.server.repo_dir()?.join(format!("{}.git", self.path));
        std::fs::create_dir_all(&dir)?;
        let mut pipelines = BTreeMap::new();
        let names = self.branches.iter().map(|name| (name, "heads", false));
        let names: Vec<_> =
            names.chain(self.tags.iter().map(|(name, _)| (name, "tags", true))).collect();
        for (name, kind, tag) in names {
            let pipeline = {
                let mut state = self.server.state.lock();
                state.next_pipeline += 1;
                state.next_pipeline
            };
            // GitLab keeps a ref per pipeline, and a runner fetches that one.
            let head = format!("reset refs/pipelines/{pipeline}\nfrom refs/{kind}/{name}\n\n");
            self.stream.extend_from_slice(head.as_bytes());
            pipelines.insert(pipeline, (name.clone(), tag));
        }
        let format = format!("--object-format={}", self.format);
        git(&dir, &["init", "--quiet", "--bare", "--initial-branch=main", &format, "."], b"")
            .await?;
        git(&dir, &["fast-import", "--quiet"], &self.stream).await?;
        for setting in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"] {
            git(&dir, &["config", setting, "true"], b"").await?;
        }
        let format = "--format=%(refname) %(objectname)";
        let listed = git(&dir, &["for-each-ref", format, "refs/pipelines"], b"").await?;
        let refs = String::from_utf8_lossy(&listed)
            .lines()
            .filter_map(|line| {
                let (name, sha) = line.split_once(' ')?;
                let pipeline = name.strip_prefix("refs/pipelines/")?.parse().ok()?;
                let (name, tag) = pipelines.get(&pipeline)?.clone();
                Some((name, Reference { sha: sha.to_owned(), pipeline, tag }))
            })
            .collect();
        let Self { path, access, format, lfs, .. } = self;
        let repo = Repo(Arc::new(Data { path, dir, refs, access, format, lfs }));
        self.server.repos.lock().insert(repo.path().to_owned(), repo.clone());
        Ok(repo)
    }
}

/// The `git` program, without the configuration of the person who runs the tests.
pub(super) fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_PROTOCOL")
        .kill_on_drop(true);
    command
}

/// Runs it with this input and returns its output.
async fn git(dir: &Path, args: &[&str], input: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = command(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A git that refuses early closes its end; its own message is the better one.
            let _ = stdin.write_all(input).await;
        }
        stdin = None;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("git {} failed: {}", args.join(" "), said.trim())))
}
