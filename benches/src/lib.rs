//! Shared inputs of the benches. They are made from a fixed seed, so that numbers can be compared.

use runner_core::log::DEFAULT_TOKEN_PREFIXES;
use runner_core::plan::LogSettings;
use runner_core::secret::Secret;

/// What a read from a pipe gives at most.
pub const CHUNK: usize = 64 * 1024;

/// Words of which log lines are made; some look a little like what is masked (`global`, `private`,
/// `token`, `?page=`).
const WORDS: [&str; 24] = [
    "Compiling",
    "downloading",
    "crate",
    "global",
    "private",
    "function",
    "[INFO]",
    "test",
    "ok",
    "warning:",
    "token",
    "https://example.com/list?page=2&sort=name",
    "0.12.4",
    "src/main.rs:42:17",
    "node_modules/left-pad",
    "finished",
    "in",
    "3.14s",
    "(100%)",
    "passed;",
    "sha256:9f86d081884c",
    "path=/usr/lib",
    "login",
    "private_key.pem",
];

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A small generator (splitmix64); quality does not matter here, only that it is always the same.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// A generator that begins at this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// This many masked values of 8 to 40 characters, as GitLab's masked variables are.
pub fn secrets(count: usize) -> Vec<String> {
    let mut random = Seeded::new(7);
    (0..count)
        .map(|index| {
            // The shortest that GitLab accepts is among them, since it decides the search's stride.
            let length = if index == 0 { 8 } else { 8 + random.below(33) };
            (0..length).map(|_| char::from(ALPHABET[random.below(ALPHABET.len())])).collect()
        })
        .collect()
}

/// Everything on: these values, GitLab's prefixes, time stamps; a limit that is never reached.
pub fn settings(secrets: &[String]) -> LogSettings {
    LogSettings {
        masks: secrets.iter().map(|secret| Secret::from(secret.as_str())).collect(),
        token_prefixes: DEFAULT_TOKEN_PREFIXES.map(str::to_owned).to_vec(),
        timestamps: true,
        sections: true,
        limit: u64::MAX,
    }
}

/// `size` bytes in lines of `width` bytes, line feed included. With `hits`, one line in ten holds a
/// secret, or a token or a URL parameter where there are no secrets.
pub fn lines(size: usize, width: usize, secrets: &[String], hits: bool) -> Vec<u8> {
    let mut random = Seeded::new(42);
    let mut log = Vec::with_capacity(size + width);
    while log.len() < size {
        let end = log.len() + width - 1;
        if hits && random.below(10) == 0 {
            match random.below(if secrets.is_empty() { 2 } else { 3 }) {
                0 => log.extend_from_slice(b"glpat-AbCdEf0123456789 "),
                1 => log.extend_from_slice(b"GET /?private_token=AbCdEf01 "),
                _ => log.extend_from_slice(secrets[random.below(secrets.len())].as_bytes()),
            }
        }
        while log.len() < end {
            log.extend_from_slice(WORDS[random.below(WORDS.len())].as_bytes());
            log.push(b' ');
        }
        log.truncate(end);
        log.push(b'\n');
    }
    log
}
