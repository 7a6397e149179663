//! Archives caches.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use runner_core::cache::CacheKey;
use runner_core::log::Message;
use runner_core::plan::{ArchiveCache, CacheStage};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::local::{Local, outlives_pod};
use super::manifest::Manifest;
use super::remote::Remote;
use super::{SIDE_BY_SIDE, notice};
use crate::archive::Level;
use crate::archive::pack::Format;
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

struct Archiver<'a> {
    context: &'a Context<'a>,
    stage: &'a CacheStage<ArchiveCache>,
    root: &'a Path,
    /// Archives are kept in the cache directory.
    keeps: bool,
    format: Format,
    level: Level,
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
    archive: Growing,
    file: Arc<File>,
    /// Set where it is to be kept.
    named: Option<NamedTempFile>,
    manifest: Manifest,
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
        let begun = self.begin(&local).and_then(|(file, named)| {
            let entries = Arc::new(entries);
            let same = file.try_clone()?;
            let places = &self.context.plan.directories;
            let archive = Growing::pack_into(same, places, entries, self.format, self.level)?;
            Ok((archive, Arc::new(file), named))
        });
        let parcel = match begun {
            Ok((archive, file, named)) => {
                Some(Parcel { key, local, archive, file, named, manifest })
            }
            Err(error) => {
                log.push(Message::warning(format_args!("no place for the archive: {error}")));
                log.push(Message::warning("Failed to create cache"));
                None
            }
        };
        Ok(Packed { cache, log, parcel })
    }

    fn begin(&self, local: &Local) -> io::Result<(File, Option<NamedTempFile>)> {
        if !self.keeps {
            return Ok((nameless(&self.context.plan.directories)?, None));
        }
        let named = local.fresh()?;
        Ok((named.as_file().try_clone()?, Some(named)))
    }

    /// Whether what the manifest describes still is where it was put.
    async fn is_there(&self, local: &Local, key: &CacheKey) -> Result<bool, StageFailure> {
        let Some(scope) = &self.stage.scope else { return Ok(local.modified().is_some()) };
        let remote = Remote { context: self.context, scope, lasts: self.stage.limit };
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
        let Some(mut parcel) = parcel else { return Ok(log) };
        let length = match parcel.archive.whole().await {
            Ok(length) => length,
            Err(error) => {
                log.push(Message::warning(error));
                log.push(Message::warning("Failed to create cache"));
                return Ok(log);
            }
        };
        let handed = self.hand_over(cache, &parcel, length, &mut log).await?;
        if let Some(named) = parcel.named
            && let Err(error) = parcel.local.keep(named, None)
        {
            log.push(Message::warning(format_args!("no place for the archive: {error}")));
        }
        match handed {
            Ok(Place::Wanted) => parcel.local.note(&parcel.manifest),
            // Not where the manifest says.
            Ok(Place::LocalOnly) | Err(_) => parcel.local.forget(),
        }
        match handed {
            Ok(_) => log.push(Message::info("Created cache")),
            Err(why) => {
                log.push(Message::warning(why));
                log.push(Message::warning("Failed to create cache"));
            }
        }
        Ok(log)
    }

    /// Sends it to the store, where there is one. The inner error is for the author.
    async fn hand_over(
        &self,
        cache: &ArchiveCache,
        parcel: &Parcel<'_>,
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
        if cache.limit > 0 && length > cache.limit {
            log.push(Message::plain(format_args!(
                "Cache archive size ({length}) is too big (Limit is set to {}). Cache will be stored \
                 only locally.",
                cache.limit
            )));
            return Ok(Ok(Place::LocalOnly));
        }
        let remote = Remote { context: self.context, scope, lasts: self.stage.limit };
        let sending = remote.put(parcel.key, &parcel.archive, &parcel.file, length);
        match timeout(self.stage.limit, sending).await {
            Ok(sent) => Ok(sent?.map(|()| Place::Wanted)),
            Err(_) => {
                let seconds = self.stage.limit.as_secs();
                Ok(Err(format!("the cache could not be handed over within {seconds} s")))
            }
        }
    }
}
