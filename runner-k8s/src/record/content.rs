//! What goes into which Secret.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use runner_core::secret::Secret;

use crate::pod::PlanItems;

/// Longest piece of a plan in one Secret, in bytes: a Secret may hold 1 MiB, keys included, and a
/// request 1.5 MiB after base64.
pub const MAX_ITEM: usize = 900 * 1024;
/// How much of the first Secret is kept free for the record itself: a ticket of 64 KiB (base64
/// inside JSON does not grow it), the pod and the environment of services.
const RESERVED: usize = 300 * 1024;
/// Most Secrets for one plan; together with [`MAX_ITEM`] the largest plan.
const MOST_ITEMS: usize = 16;

/// The parts of a record beside its body.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Pieces of the compressed plan; the first one stands in the record if it is short enough.
    pieces: Vec<Bytes>,
    first_inside: bool,
    pull: Option<Bytes>,
    token: Option<Secret>,
}

/// Why a job cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job is too large: its variables and scripts take {size} bytes{packed}, at most {most} are \
     possible; use fewer or shorter variables"
)]
pub struct ContentError {
    size: usize,
    most: usize,
    packed: &'static str,
}

/// Longest plan before compression. The agent holds it in memory, beside the job, in a container that
/// may have little; and no program can be started with a variable longer than 128 KiB anyway.
const LONGEST_PLAN: usize = 16 << 20;

/// Gzips; in memory, where writing cannot fail.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to a Vec does not fail");
    encoder.finish().expect("writing to a Vec does not fail")
}

impl Content {
    /// Splits a plan. `pull`: what the Secret with the pull credentials holds.
    ///
    /// # Errors
    /// When the plan is too large for any number of Secrets.
    pub fn new(plan: &[u8], pull: Option<Bytes>) -> Result<Self, ContentError> {
        if plan.len() > LONGEST_PLAN {
            return Err(ContentError { size: plan.len(), most: LONGEST_PLAN, packed: "" });
        }
        let packed = Bytes::from(gzip(plan));
        let most = MOST_ITEMS * MAX_ITEM;
        if packed.len() > most {
            return Err(ContentError { size: packed.len(), most, packed: " compressed" });
        }
        let first_inside = packed.len() <= MAX_ITEM - RESERVED;
        let mut pieces = Vec::new();
        let mut rest = packed;
        while !rest.is_empty() {
            pieces.push(rest.split_to(rest.len().min(MAX_ITEM)));
        }
        Ok(Self { pieces, first_inside, pull, token: None })
    }

    /// The same with the job's own token for the API server, for managers only: no pod mounts it.
    #[must_use]
    pub fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// The names and keys under which the pod finds it all.
    pub fn items(&self, record: &str) -> PlanItems {
        let secrets = if self.first_inside {
            vec![(record.to_owned(), vec![key(0)])]
        } else {
            let all = 0..self.pieces.len();
            all.map(|index| (plan_secret(record, index), vec![key(index)])).collect()
        };
        PlanItems { secrets, pull_secret: self.pull.as_ref().map(|_| pull_secret(record)) }
    }

    /// The Secrets of a job and their keys, for who wants to see what there would be. `own`: keys
    /// that the record has beside these.
    pub fn secrets(
        &self,
        record: &str,
        own: impl IntoIterator<Item = String>,
    ) -> Vec<(String, Vec<String>)> {
        let keys = self.inside().into_keys().chain(own).collect();
        let others = self.others(record).into_iter();
        let others = others.map(|other| (other.name, other.data.into_keys().collect()));
        std::iter::once((record.to_owned(), keys)).chain(others).collect()
    }

    /// What stands in the record itself.
    pub(super) fn inside(&self) -> BTreeMap<String, Bytes> {
        let first = self.pieces.first().filter(|_| self.first_inside);
        first.map(|piece| (key(0), piece.clone())).into_iter().collect()
    }

    /// The Secrets beside the record: name, role, type, data.
    pub(super) fn others(&self, record: &str) -> Vec<OtherSecret> {
        let mut out = Vec::new();
        if !self.first_inside {
            for (index, piece) in self.pieces.iter().enumerate() {
                out.push(OtherSecret {
                    name: plan_secret(record, index),
                    role: "plan",
                    kind: "Opaque",
                    data: [(key(index), piece.clone())].into(),
                });
            }
        }
        if let Some(pull) = &self.pull {
            out.push(OtherSecret {
                name: pull_secret(record),
                role: "pull",
                kind: "kubernetes.io/dockerconfigjson",
                data: [(".dockerconfigjson".to_owned(), pull.clone())].into(),
            });
        }
        out
    }
}

/// A Secret beside the record.
pub(super) struct OtherSecret {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) kind: &'static str,
    pub(super) data: BTreeMap<String, Bytes>,
}

fn key(index: usize) -> String {
    format!("plan.{index}")
}

fn plan_secret(record: &str, index: usize) -> String {
    format!("{record}-plan-{index}")
}

fn pull_secret(record: &str) -> String {
    format!("{record}-pull")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{Content, MAX_ITEM};

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(|_| step()).collect()
    }

    fn joined(content: &Content) -> Vec<u8> {
        let mut packed = Vec::new();
        let others = content.others("r");
        for data in std::iter::once(&content.inside()).chain(others.iter().map(|o| &o.data)) {
            data.values().for_each(|piece| packed.extend_from_slice(piece));
        }
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn a_plan_that_fits_stands_in_the_record_itself() {
        let content = Content::new(b"{}", None).unwrap();
        assert!(content.others("r").is_empty());
        assert_eq!(content.items("r").secrets, [("r".to_owned(), vec!["plan.0".to_owned()])]);
        assert_eq!(joined(&content), b"{}");
    }

    #[test]
    fn a_large_plan_is_split_and_joined_again() {
        let plan = noise(3 * MAX_ITEM);
        let content = Content::new(&plan, None).unwrap();
        let others = content.others("r");
        assert_eq!(others.len(), 4);
        assert!(others.iter().all(|o| o.data.values().all(|piece| piece.len() <= MAX_ITEM)));
        assert_eq!(content.items("r").secrets.len(), 4);
        assert_eq!(joined(&content), plan);
    }

    #[test]
    fn a_plan_that_no_cluster_takes_is_refused_with_its_size() {
        let error = Content::new(&noise(17 * MAX_ITEM), None).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn k8s_20_pull_credentials_are_a_secret_of_their_own() {
        let content = Content::new(b"{}", Some("{}".into())).unwrap();
        let others = content.others("r");
        assert_eq!(others[0].kind, "kubernetes.io/dockerconfigjson");
        assert_eq!(others[0].data[".dockerconfigjson"], "{}");
        assert_eq!(content.items("r").pull_secret.as_deref(), Some("r-pull"));
    }
}
