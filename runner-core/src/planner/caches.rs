//! The stages that restore and archive caches.

use std::time::Duration;

use super::error::PlanError;
use super::flags::Flags;
use super::settings::PlanSettings;
use super::values::cut;
use super::variables::VariableSet;
use crate::cache::{CacheKey, CacheScope, KeyForm};
use crate::job::{ArtifactWhen, Cache, Job};
use crate::plan::{
    ArchiveCache, CacheStage, HeaderLine, LineLevel, OnFailure, Operation, Place, RestoreCache,
    Stage, When,
};

/// `CACHE_REQUEST_TIMEOUT` where there is none, in minutes.
const DEFAULT_TIMEOUT: u64 = 10;

/// What the stages are made of.
pub(super) struct Caches<'a> {
    pub(super) job: &'a Job,
    pub(super) settings: &'a PlanSettings,
    pub(super) variables: &'a VariableSet,
    pub(super) flags: &'a Flags,
    pub(super) scope: Option<CacheScope>,
}

/// Which ways a cache goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    pulls: bool,
    pushes: bool,
}

impl Caches<'_> {
    /// `restore_cache`, if there is anything to restore.
    pub(super) fn restore(&self) -> Result<Option<Stage>, PlanError> {
        let caches = self.wanted().map(|cache| self.restore_one(cache));
        let caches = caches.collect::<Result<Vec<_>, _>>()?;
        let stage = (!caches.is_empty()).then(|| {
            let operation = Operation::RestoreCaches(self.stage(caches));
            stage("restore_cache", "Restoring cache", When::Success, operation)
        });
        Ok(stage)
    }

    /// The variants of `archive_cache`, if there is anything to archive. A cache never fails a job, so
    /// it does not matter which of them comes first.
    pub(super) fn archive(&self) -> Result<Vec<Stage>, PlanError> {
        let variants = [
            (
                "archive_cache_on_failure",
                "Saving cache for failed job",
                When::Failure,
                ArtifactWhen::OnSuccess,
            ),
            (
                "archive_cache",
                "Saving cache for successful job",
                When::Success,
                ArtifactWhen::OnFailure,
            ),
        ];
        let mut stages = Vec::new();
        for (name, title, when, skipped) in variants {
            let caches = self.wanted().filter(|cache| cache.when != skipped);
            let caches =
                caches.map(|cache| self.archive_one(cache)).collect::<Result<Vec<_>, _>>()?;
            if !caches.is_empty() {
                let operation = Operation::ArchiveCaches(self.stage(caches));
                stages.push(stage(name, title, when, operation));
            }
        }
        Ok(stages)
    }

    fn wanted(&self) -> impl Iterator<Item = &Cache> {
        self.job.caches.iter().filter(|cache| !cache.paths.is_empty() || cache.untracked)
    }

    fn stage<T>(&self, caches: Vec<T>) -> CacheStage<T> {
        let minutes = self.variables.setting("CACHE_REQUEST_TIMEOUT");
        let minutes = minutes.and_then(|raw| raw.trim().parse().ok()).filter(|m| *m > 0);
        let limit = Duration::from_secs(60)
            .saturating_mul(u32::try_from(minutes.unwrap_or(DEFAULT_TIMEOUT)).unwrap_or(u32::MAX));
        CacheStage { scope: self.scope.clone(), limit, caches }
    }

    fn restore_one(&self, cache: &Cache) -> Result<RestoreCache, PlanError> {
        let mut notices = Vec::new();
        let mut keys = Vec::new();
        match self.main_key(cache, &mut notices)? {
            None => notices.push(notice("Skipping cache extraction due to empty cache key")),
            Some(key) if !self.policy(cache, &key.human)?.pulls => {
                notices.push(notice(format!("Not downloading cache {} due to policy", key.human)))
            }
            Some(key) => {
                keys.push(key);
                for fallback in &cache.fallback_keys {
                    keys.extend(self.key(&self.variables.expand(fallback)?, &mut notices));
                }
                keys.extend(self.global_fallback(&mut notices));
            }
        }
        Ok(RestoreCache {
            notices,
            keys,
            paths: cache.paths.clone(),
            untracked: cache.untracked,
            clean_up: self.flags.is_on("FF_CLEAN_UP_FAILED_CACHE_EXTRACT"),
        })
    }

    fn archive_one(&self, cache: &Cache) -> Result<ArchiveCache, PlanError> {
        let mut notices = Vec::new();
        let key = match self.main_key(cache, &mut notices)? {
            None => {
                notices.push(notice("Skipping cache archiving due to empty cache key"));
                None
            }
            Some(key) if !self.policy(cache, &key.human)?.pushes => {
                notices.push(notice(format!("Not uploading cache {} due to policy", key.human)));
                None
            }
            key => key,
        };
        Ok(ArchiveCache {
            notices,
            key,
            paths: cache.paths.clone(),
            untracked: cache.untracked,
            limit: self.settings.cache_limit,
        })
    }

    /// The key itself; job name and ref where there is none.
    fn main_key(
        &self,
        cache: &Cache,
        notices: &mut Vec<HeaderLine>,
    ) -> Result<Option<CacheKey>, PlanError> {
        let raw = self.variables.expand(&cache.key)?;
        if raw.is_empty() {
            let default = format!("{}/{}", self.job.name, self.job.project.reference);
            let clean = crate::cache::sanitize(&default).unwrap_or_default();
            return Ok(CacheKey::new(&clean, self.form()).ok());
        }
        Ok(self.key(&raw, notices))
    }

    fn key(&self, raw: &str, notices: &mut Vec<HeaderLine>) -> Option<CacheKey> {
        match CacheKey::new(raw, self.form()) {
            Ok(key) => {
                if key.human != raw {
                    let text = format!("cache key {raw:?} sanitized to {:?}", key.human);
                    notices.push(HeaderLine::warning(text));
                }
                Some(key)
            }
            // An empty fallback is a variable that is not set.
            Err(_) if raw.is_empty() => None,
            Err(error) => {
                notices.push(HeaderLine::warning(error.to_string()));
                None
            }
        }
    }

    /// `CACHE_FALLBACK_KEY`. The source separates protected caches by their names; a job of an
    /// unprotected branch must not name one of those itself.
    fn global_fallback(&self, notices: &mut Vec<HeaderLine>) -> Option<CacheKey> {
        let raw = self.variables.setting("CACHE_FALLBACK_KEY").filter(|raw| !raw.is_empty())?;
        let key = self.key(raw, notices)?;
        let is_protected = |key: &str| key.trim_end_matches(['.', ' ']).ends_with("-protected");
        // In both spellings: what is cleaned away must not hide it.
        if is_protected(raw) || is_protected(&key.human) {
            let text = format!("CACHE_FALLBACK_KEY {raw:?} not allowed to end in \"-protected\"");
            notices.push(HeaderLine::warning(text));
            return None;
        }
        Some(key)
    }

    fn form(&self) -> KeyForm {
        match self.flags.is_on("FF_HASH_CACHE_KEYS") {
            true => KeyForm::Hashed,
            false => KeyForm::Plain,
        }
    }

    fn policy(&self, cache: &Cache, key: &str) -> Result<Policy, PlanError> {
        let policy = self.variables.expand(&cache.policy)?;
        match policy.as_str() {
            "" | "pull-push" => Ok(Policy { pulls: true, pushes: true }),
            "pull" => Ok(Policy { pulls: true, pushes: false }),
            "push" => Ok(Policy { pulls: false, pushes: true }),
            _ => Err(PlanError::CachePolicy { policy: cut(&policy), key: key.to_owned() }),
        }
    }
}

fn notice(text: impl Into<String>) -> HeaderLine {
    HeaderLine { text: text.into(), level: LineLevel::Info, at: None }
}

fn stage(name: &str, title: &str, when: When, operation: Operation) -> Stage {
    Stage {
        name: name.to_owned(),
        title: Some(title.to_owned()),
        place: Place::Helper,
        when,
        on_failure: OnFailure::Ignored,
        attempts: 1,
        timeout: None,
        operation,
    }
}
