//! Archives caches.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use runner_core::cache::{CacheKey, PART, Uploads};
use runner_core::log::Message;
use runner_core::plan::{ArchiveCache, CacheStage};
use tempfile::NamedTempFile;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::local::{Local, outlives_pod};
use super::manifest::Manifest;
use super::parts::{PARTS_AT_ONCE, Parts};
use super::remote::Remote;
use super::upload::{Sent, Upload};
use super::{SIDE_BY_SIDE, notice};
use crate::archive::pack::Format;
use crate::archive::{Entries, Level};
use crate::stages::context::{Context, StageFailure};
use crate::stages::gather::{gather, level};
use crate::stages::growing::{Growing, nameless};
use crate::stages::select::Selected;

/// Archives them; whatever goes wrong is a warning.
pub(in crate::stages) async fn archive(
    context: &Context<'_>,
    stage: &CacheStage<ArchiveCache>,
) -> Result<(), StageFailure> {
    let root = Path::new(&context.plan.directories.cache);
    let archiver = Archiver {
        context,
        stage,
        root,
        keeps: stage.scope.is_none() || outlives_pod(root),
        format: format(context)?,
        level: level(context, "CACHE_COMPRESSION_LEVEL")?,
        most: most_bytes(context)?,
        permits: Arc::new(Semaphore::new(PARTS_AT_ONCE)),
    };
    // One packed archive waits while others are sent.
    let (sender, packed) = mpsc::channel(1);
    let pack = async {
        // Moved in: dropped at the end, so that the other side ends too.
        let sender = sender;
        for cache in &stage.caches {
            if sender.send(archiver.pack(cache).await).await.is_err() {
                return;
            }
        }
    };
    let send = async {
        let packed = stream::unfold(packed, |mut packed| async {
            let next = packed.recv().await?;
            Some((next, packed))
        });
        let sent = packed.map(|packed| archiver.send(packed)).buffered(SIDE_BY_SIDE);
        tokio::pin!(sent);
        while let Some(log) = sent.next().await {
            for message in log? {
                context.say(&message)?;
            }
        }
        Ok(())
    };
    join(pack, send).await.1
}

/// `CACHE_COMPRESSION_FORMAT`.
fn format(context: &Context<'_>) -> Result<Format, StageFailure> {
    let word = context.variable("CACHE_COMPRESSION_FORMAT").unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "" | "zip" => Ok(Format::Zip),
        "zipzstd" => Ok(Format::ZipZstd),
        "tarzstd" => Ok(Format::TarZstd),
        _ => {
            context.say(&Message::warning(format_args!(
                "CACHE_COMPRESSION_FORMAT: {word:?} is none of zip, zipzstd, tarzstd; using zip"
            )))?;
            Ok(Format::Zip)
        }
    }
}

/// `CACHE_MAX_UPLOADED_ARCHIVE_SIZE`.
fn most_bytes(context: &Context<'_>) -> Result<u64, StageFailure> {
    let word = context.variable("CACHE_MAX_UPLOADED_ARCHIVE_SIZE").unwrap_or_default();
    match word.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) if word.is_empty() => Ok(0),
        Err(_) => {
            context.say(&Message::warning(format_args!(
                "CACHE_MAX_UPLOADED_ARCHIVE_SIZE: {word:?} is no number of bytes; there is no limit"
            )))?;
            Ok(0)
        }
    }
}

struct Archiver<'a> {
    context: &'a Context<'a>,
    stage: &'a CacheStage<ArchiveCache>,
    root: &'a Path,
    /// Archives are kept in the cache directory.
    keeps: bool,
    format: Format,
    level: Level,
    /// Largest archive for the store where the runner has no limit of its own, in bytes; 0: none either.
    most: u64,
    /// Places for parts in memory.
    permits: Arc<Semaphore>,
}

/// A cache on its way, with what the author should know so far.
struct Packed<'a> {
    cache: &'a ArchiveCache,
    log: Vec<Message>,
    parcel: Option<Parcel<'a>>,
}

/// An archive in the making.
struct Parcel<'a> {
    key: &'a CacheKey,
    local: Local,
    archive: Packing,
    manifest: Manifest,
}

/// Where an archive is while it is made.
enum Packing {
    /// In a file: it is to be kept (then the file has a name), or the store wants to know its length first.
    File { growing: Growing, file: Arc<File>, named: Option<NamedTempFile> },
    /// On its way to the store.
    Parts(Parts),
}

/// Where an archive has come to lie.
enum Place {
    /// Where the plan wants it.
    Wanted,
    /// It was too large for the store.
    LocalOnly,
}

impl<'a> Archiver<'a> {
    /// Looks for the files and begins to pack them.
    async fn pack(&self, cache: &'a ArchiveCache) -> Result<Packed<'a>, StageFailure> {
        let mut log: Vec<_> = cache.notices.iter().map(notice).collect();
        let Some(key) = &cache.key else { return Ok(Packed { cache, log, parcel: None }) };
        log.push(Message::info(format_args!("Creating cache {}...", key.human)));
        let found = gather(self.context, &cache.paths, &[], cache.untracked).await?;
        let Selected { entries, messages } = found;
        log.extend(messages);
        if entries.is_empty() {
            log.push(Message::warning("No files to cache."));
            log.push(Message::info("Created cache"));
            return Ok(Packed { cache, log, parcel: None });
        }
        let local = Local::new(self.root, key);
        let object = self.stage.scope.is_some().then(|| key.object.clone());
        let manifest = Manifest::of(&entries, object);
        if local.manifest().as_ref() == Some(&manifest) && self.is_there(&local, key).await? {
            log.push(Message::plain("Archive is up to date!"));
            log.push(Message::info("Created cache"));
            return Ok(Packed { cache, log, parcel: None });
        }
        let parcel = match self.begin(&local, entries) {
            Ok(archive) => Some(Parcel { key, local, archive, manifest }),
            Err(error) => {
                log.push(Message::warning(format_args!("no place for the archive: {error}")));
                log.push(Message::caution("Failed to create cache"));
                None
            }
        };
        Ok(Packed { cache, log, parcel })
    }

    fn begin(&self, local: &Local, entries: Entries) -> io::Result<Packing> {
        let places = &self.context.plan.directories;
        if !self.keeps && self.takes_parts() {
            let parts = Parts::pack(places, entries, self.format, self.level, &self.permits)?;
            return Ok(Packing::Parts(parts));
        }
        let named = if self.keeps { Some(local.fresh()?) } else { None };
        let file = match &named {
            Some(named) => named.as_file().try_clone()?,
            None => nameless(places)?,
        };
        let (same, entries) = (file.try_clone()?, Arc::new(entries));
        let growing = Growing::pack_into(same, places, entries, self.format, self.level)?;
        Ok(Packing::File { growing, file: Arc::new(file), named })
    }

    fn takes_parts(&self) -> bool {
        self.stage.scope.as_ref().is_some_and(|scope| scope.uploads == Uploads::Parts)
    }

    /// Whether what the manifest describes still is where it was put.
    async fn is_there(&self, local: &Local, key: &CacheKey) -> Result<bool, StageFailure> {
        let Some(scope) = &self.stage.scope else { return Ok(local.modified().is_some()) };
        let remote = Remote::new(self.context, scope, self.stage.limit);
        match timeout(self.stage.limit, remote.has(&key.object)).await {
            Ok(there) => there,
            Err(_) => Ok(false),
        }
    }

    /// Waits until it is packed and hands it over.
    async fn send(
        &self,
        packed: Result<Packed<'a>, StageFailure>,
    ) -> Result<Vec<Message>, StageFailure> {
        let Packed { cache, mut log, parcel } = packed?;
        let Some(Parcel { key, local, archive, manifest }) = parcel else { return Ok(log) };
        let handed = match archive {
            Packing::Parts(parts) => self.send_parts(cache, key, parts, &mut log).await?,
            Packing::File { mut growing, file, named } => {
                let length = match growing.whole().await {
                    Ok(length) => length,
                    Err(error) => {
                        log.push(Message::warning(error));
                        log.push(Message::caution("Failed to create cache"));
                        return Ok(log);
                    }
                };
                let handed = self.hand_over(cache, key, &growing, &file, length, &mut log).await?;
                if let Some(named) = named
                    && let Err(error) = local.keep(named, None)
                {
                    log.push(Message::warning(format_args!("no place for the archive: {error}")));
                }
                handed
            }
        };
        match handed {
            Ok(Place::Wanted) => local.note(&manifest),
            // Not where the manifest says.
            Ok(Place::LocalOnly) | Err(_) => local.forget(),
        }
        match handed {
            Ok(_) => log.push(Message::info("Created cache")),
            Err(why) => {
                log.push(Message::warning(why));
                log.push(Message::caution("Failed to create cache"));
            }
        }
        Ok(log)
    }

    /// Sends it to the store, where there is one. The inner error is for the author.
    async fn hand_over(
        &self,
        cache: &ArchiveCache,
        key: &CacheKey,
        archive: &Growing,
        file: &Arc<File>,
        length: u64,
        log: &mut Vec<Message>,
    ) -> Result<Result<Place, String>, StageFailure> {
        let Some(scope) = &self.stage.scope else {
            log.push(Message::plain(
                "No URL provided, cache will not be uploaded to shared cache server. Cache will be \
                 stored only locally.",
            ));
            return Ok(Ok(Place::Wanted));
        };
        let limit = self.limit(cache);
        if limit > 0 && length > limit {
            log.push(too_big(length, limit));
            return Ok(Ok(Place::LocalOnly));
        }
        if length > PART && self.takes_parts() {
            let parts = Parts::of_file(Arc::clone(file), &self.permits);
            return self.send_parts(cache, key, parts, log).await;
        }
        let remote = Remote::new(self.context, scope, self.stage.limit);
        let sent = timeout(self.stage.limit, remote.put(key, archive, file, length)).await;
        log.extend(uploading(&remote));
        match sent {
            Ok(sent) => Ok(sent?.map(|()| Place::Wanted)),
            Err(_) => Ok(Err(self.too_late())),
        }
    }

    /// Sends parts as they come. The inner error is for the author.
    async fn send_parts(
        &self,
        cache: &ArchiveCache,
        key: &CacheKey,
        parts: Parts,
        log: &mut Vec<Message>,
    ) -> Result<Result<Place, String>, StageFailure> {
        let Some(scope) = &self.stage.scope else { return Ok(Ok(Place::LocalOnly)) };
        let remote = Remote::new(self.context, scope, self.stage.limit);
        let upload = Upload::new(&remote, key);
        let sent = timeout(self.stage.limit, upload.send(parts, self.limit(cache))).await;
        log.extend(uploading(&remote));
        upload.abandon().await;
        Ok(match sent {
            Ok(sent) => sent?.map(|sent| match sent {
                Sent::Whole => Place::Wanted,
                Sent::TooBig(length) => {
                    log.push(too_big(length, self.limit(cache)));
                    Place::LocalOnly
                }
            }),
            Err(_) => Err(self.too_late()),
        })
    }

    /// The runner's own limit counts before the job's, as with GitLab Runner.
    fn limit(&self, cache: &ArchiveCache) -> u64 {
        if cache.limit > 0 { cache.limit } else { self.most }
    }

    fn too_late(&self) -> String {
        let seconds = self.stage.limit.as_secs();
        format!("the cache could not be handed over within {seconds} s")
    }
}

/// Where it went, or would have gone.
fn uploading(remote: &Remote<'_>) -> Option<Message> {
    let address = remote.address()?;
    Some(Message::plain(format_args!("Uploading cache.zip to {address}")))
}

fn too_big(length: u64, limit: u64) -> Message {
    Message::plain(format_args!(
        "Cache archive size ({length}) is too big (Limit is set to {limit}). Cache will be stored only locally."
    ))
}
