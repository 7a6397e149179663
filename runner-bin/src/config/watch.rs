//! Notices that a file has changed: by inotify, where the system grants it, else by a look every
//! three seconds, as GitLab Runner does.
//!
//! What counts is the content. Kubernetes changes a mounted ConfigMap or Secret by swapping a
//! symbolic link in the directory; editors rename; some tools write in place. After the first sign
//! there is a moment of waiting, because a file that is written in place is empty for an instant.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

/// GitLab Runner's interval.
const LOOK: Duration = Duration::from_secs(3);
/// No sign for this long: whoever writes is done.
const SETTLED: Duration = Duration::from_millis(100);
/// Somebody who writes without end is not waited for longer.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);

/// Files that are watched.
#[derive(Debug)]
pub(crate) struct FileWatch {
    files: Vec<PathBuf>,
    seen: Vec<Option<u64>>,
    /// `None`: the system has none left (`fs.inotify.max_user_instances`), or cannot do it.
    signs: Option<Receiver>,
}

impl FileWatch {
    /// Watches these files, which need not be there yet. To be called in a runtime.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let signs = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            // Not a pipe, but read in the same way: it becomes readable, and a read empties it.
            .and_then(|fd| Receiver::from_file_unchecked(File::from(fd)));
        let signs = signs
            .inspect_err(|error| {
                info!(%error, "no inotify; the configuration is looked at every 3 seconds");
            })
            .ok();
        let mut watch = Self { files, seen: Vec::new(), signs };
        watch.point();
        watch.seen = watch.look();
        watch
    }

    /// Watches these files from now on; a change since the last look at one of them is noticed.
    pub(crate) fn set_files(&mut self, files: Vec<PathBuf>) {
        if files == self.files {
            return;
        }
        let old: Vec<_> = self.files.drain(..).zip(self.seen.drain(..)).collect();
        let known = |file: &PathBuf| old.iter().find(|(path, _)| path == file).map(|(_, s)| *s);
        self.seen = files.iter().map(|file| known(file).unwrap_or_else(|| stamp(file))).collect();
        self.files = files;
        self.point();
    }

    /// Waits until the content of a file is another one. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Before the look, so that a change in between gives a sign.
            self.point();
            let now = self.look();
            if now != self.seen {
                self.seen = now;
                return;
            }
            self.sign().await;
            let limit = Instant::now() + LONGEST_SETTLING;
            while let Some(signs) = &self.signs
                && Instant::now() < limit
                && timeout_at(Instant::now() + SETTLED, read(signs)).await.is_ok()
            {}
        }
    }

    async fn sign(&self) {
        match &self.signs {
            Some(signs) => read(signs).await,
            None => sleep(LOOK).await,
        }
    }

    fn look(&self) -> Vec<Option<u64>> {
        self.files.iter().map(|file| stamp(file)).collect()
    }

    /// Watches the files and every directory on the way of their links. Doing it again is harmless.
    fn point(&self) {
        let Some(signs) = &self.signs else { return };
        let directory = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE;
        let content = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        for file in &self.files {
            for place in places(file) {
                // What is not there gives no sign; its parent does when it comes.
                let _ = inotify::add_watch(signs, &place, directory);
            }
            // A file that is mounted by itself changes without a sign in its directory.
            let _ = inotify::add_watch(signs, file, content);
        }
    }
}

/// The directories in which something may happen that changes what this path leads to.
fn places(file: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut path = file.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let Some(parent) = path.parent() else { break };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        places.push(parent.to_owned());
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = parent.join(target);
    }
    places
}

fn stamp(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// Waits for signs and takes all there are. Which ones does not matter.
async fn read(signs: &Receiver) {
    let mut buffer = [0; 4096];
    loop {
        if signs.readable().await.is_err() {
            return std::future::pending().await;
        }
        if signs.try_read(&mut buffer).is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::FileWatch;

    const SOON: Duration = Duration::from_secs(10);

    async fn changed(watch: &mut FileWatch) {
        timeout(SOON, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn manager_28_a_mounted_config_map_that_is_swapped_is_noticed() {
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.toml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.toml", at("config.toml")).unwrap();
        let mut watch = FileWatch::new(vec![at("config.toml")]);
        for version in ["..2", "..3"] {
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            changed(&mut watch).await;
        }
    }

    #[tokio::test]
    async fn manager_02_a_file_that_appears_and_one_that_is_replaced_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let mut watch = FileWatch::new(vec![file.clone()]);
        fs::write(&file, "one").unwrap();
        changed(&mut watch).await;
        super::super::edit::save(&file, "two").unwrap();
        changed(&mut watch).await;
        fs::write(&file, "three, in place").unwrap();
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_that_was_only_touched_has_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(vec![file.clone()]);
        fs::write(&file, "one").unwrap();
        fs::write(directory.path().join("another"), "x").unwrap();
        timeout(Duration::from_millis(400), watch.changed()).await.unwrap_err();
    }
}
