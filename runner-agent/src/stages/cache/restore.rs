//! Restores caches.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::Path;

use futures_util::{StreamExt, stream};
use runner_core::cache::{CacheAction, CacheKey};
use runner_core::log::Message;
use runner_core::plan::{CacheStage, RestoreCache};
use tempfile::NamedTempFile;
use tokio::time::{Instant, timeout_at};

use super::fetch::Had;
use super::local::{Local, outlives_pod};
use super::manifest::Manifest;
use super::remote::Remote;
use super::{SIDE_BY_SIDE, notice};
use crate::archive::Entries;
use crate::archive::unpack::{Limits, unpack};
use crate::stages::context::{Context, StageFailure};
use crate::stages::gather::gather;
use crate::stages::growing::nameless;

/// Restores them; whatever goes wrong is a warning.
pub(in crate::stages) async fn restore(
    context: &Context<'_>,
    stage: &CacheStage<RestoreCache>,
) -> Result<(), StageFailure> {
    let root = Path::new(&context.plan.directories.cache);
    let keeps = stage.scope.is_none() || outlives_pod(root);
    let searches = stage.caches.iter().map(|cache| async move {
        let deadline = Instant::now() + stage.limit;
        let keys = cache.keys.iter();
        let mut search = Search { context, stage, root, keys, deadline, keeps, log: Vec::new() };
        search.log.extend(cache.notices.iter().map(notice));
        let found = search.next().await?;
        Ok::<_, StageFailure>((cache, search, found))
    });
    let mut searched = stream::iter(searches).buffered(SIDE_BY_SIDE);
    while let Some(result) = searched.next().await {
        let (cache, mut search, mut found) = result?;
        loop {
            for message in search.log.drain(..) {
                context.say(&message)?;
            }
            let Some(Found { file, local, object }) = found else { break };
            if unpacked(context, cache, file).await? {
                context.say(&Message::info("Successfully extracted cache"))?;
                let held = gather(context, &cache.paths, &[], cache.untracked).await?.entries;
                local.note(&Manifest::of(&held, object));
                break;
            }
            local.forget();
            // Time spent unpacking is not the next one's.
            search.deadline = Instant::now() + stage.limit;
            found = search.next().await?;
        }
    }
    Ok(())
}

/// An archive that can be unpacked.
struct Found {
    file: File,
    local: Local,
    /// The object in the store that it is.
    object: Option<String>,
}

/// Goes through the keys of a cache.
struct Search<'a> {
    context: &'a Context<'a>,
    stage: &'a CacheStage<RestoreCache>,
    root: &'a Path,
    keys: std::slice::Iter<'a, CacheKey>,
    deadline: Instant,
    /// Archives are kept in the cache directory.
    keeps: bool,
    /// What the author should know, when it is this cache's turn.
    log: Vec<Message>,
}

impl Search<'_> {
    /// The next archive that can be had.
    async fn next(&mut self) -> Result<Option<Found>, StageFailure> {
        while let Some(key) = self.keys.next() {
            self.log.push(Message::info(format_args!("Checking cache for {}...", key.human)));
            match self.find(key).await? {
                Ok(found) => return Ok(Some(found)),
                Err(why) => {
                    self.log.push(Message::warning(why));
                    self.log.push(Message::caution("Failed to extract cache"));
                }
            }
        }
        Ok(None)
    }

    /// The archive under a key. The inner error is for the author.
    async fn find(&mut self, key: &CacheKey) -> Result<Result<Found, String>, StageFailure> {
        let local = Local::new(self.root, key);
        let Some(scope) = &self.stage.scope else { return Ok(self.local(local)) };
        let remote = Remote::new(self.context, scope, self.stage.limit);
        let mut problem = String::new();
        // The other form of the key only if there is nothing under this one: GitLab Runner asks for
        // both in any case.
        for object in [&key.object, &key.alternate] {
            let had = timeout_at(self.deadline, self.fetch(&remote, object, &local)).await;
            match had {
                Err(_) => {
                    let seconds = self.stage.limit.as_secs();
                    return Ok(Err(format!("the cache could not be had within {seconds} s")));
                }
                Ok(Err(failure)) => return Err(failure),
                Ok(Ok(Err(refused))) => {
                    // As without a store: what is in the cache directory is all there is.
                    return Ok(match local.open() {
                        Some(_) => self.local(local),
                        None => Err(refused),
                    });
                }
                Ok(Ok(Ok(Had::No(why)))) => problem = why,
                Ok(Ok(Ok(Had::File(file, _)))) => {
                    let address = remote.address();
                    self.log.extend(address.map(|address| {
                        Message::plain(format_args!("Downloading cache from {address}"))
                    }));
                    let object = Some(object.clone());
                    return Ok(Ok(Found { file, local, object }));
                }
                Ok(Ok(Ok(Had::UpToDate))) => {
                    self.log.push(Message::plain("cache.zip is up to date"));
                    return Ok(match local.open() {
                        Some(file) => Ok(Found { file, local, object: Some(object.clone()) }),
                        None => Err("Cache file does not exist".to_owned()),
                    });
                }
            }
        }
        Ok(Err(problem))
    }

    fn local(&mut self, local: Local) -> Result<Found, String> {
        let file = local.open().ok_or("Cache file does not exist")?;
        self.log.push(Message::plain(
            "No URL provided, cache will not be downloaded from shared cache server. Instead a local \
             version of cache will be extracted.",
        ));
        Ok(Found { file, local, object: None })
    }

    async fn fetch(
        &self,
        remote: &Remote<'_>,
        object: &str,
        local: &Local,
    ) -> Result<Result<Had, String>, StageFailure> {
        let transfer = match remote.ask(object, CacheAction::Get).await {
            Ok(transfer) => transfer,
            Err(refused) => return Ok(Err(refused)),
        };
        if !self.keeps {
            let had =
                remote.get(&transfer, None, || nameless(&self.context.plan.directories)).await?;
            return Ok(Ok(had));
        }
        let named: RefCell<Option<NamedTempFile>> = RefCell::default();
        let fresh = || {
            let file = local.fresh()?;
            let same = file.as_file().try_clone()?;
            *named.borrow_mut() = Some(file);
            Ok(same)
        };
        let had = remote.get(&transfer, local.modified(), fresh).await?;
        Ok(Ok(match (had, named.into_inner()) {
            (Had::File(_, modified), Some(file)) => match local.keep(file, modified) {
                Ok(file) => Had::File(file, modified),
                Err(error) => Had::No(format!("no place for the archive: {error}")),
            },
            (had, _) => had,
        }))
    }
}

/// Unpacks an archive into the project; `false`: it could not be, which has been said.
async fn unpacked(
    context: &Context<'_>,
    cache: &RestoreCache,
    file: File,
) -> Result<bool, StageFailure> {
    let project = context.project()?;
    let unpacking = move || unpack(file, &project.path(), Limits::default());
    let work = tokio::task::spawn_blocking(unpacking);
    let problem = match work.await {
        Ok(Ok(_)) => return Ok(true),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "unpacking was interrupted".to_owned(),
    };
    context.say(&Message::warning(problem))?;
    context.say(&Message::caution("Failed to extract cache"))?;
    if cache.clean_up {
        clean_up(context, cache).await?;
    }
    Ok(false)
}

/// Removes what a broken archive may have left half done.
async fn clean_up(context: &Context<'_>, cache: &RestoreCache) -> Result<(), StageFailure> {
    for path in &cache.paths {
        context.say(&Message::plain(format_args!("Removing {path}")))?;
    }
    let entries: Entries = gather(context, &cache.paths, &[], false).await?.entries;
    let project = context.project()?;
    let removal = tokio::task::spawn_blocking(move || {
        // What lies below a directory comes after it, so it goes first.
        for name in entries.keys().rev() {
            let path = project.path().join(name);
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir());
            // What cannot be removed is in nobody's way but the next restore's, which will say so.
            let _ = if is_directory { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        }
    });
    // It ends by itself; a stage that ends first leaves it to its end.
    let _ = removal.await;
    Ok(())
}
