//! The key of a cache as a header of its object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest key that is kept with the object; S3 has 2 KiB for all metadata.
const LONGEST: usize = 1024;

/// The header's value. What a header cannot hold is encoded as in mail (RFC 2047), which is what S3
/// itself makes of it. `None`: it is too long.
pub(crate) fn value(key: &str) -> Option<String> {
    let is_plain = key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && key.trim() == key;
    let value = match is_plain {
        true => key.to_owned(),
        false => format!("=?UTF-8?B?{}?=", STANDARD.encode(key)),
    };
    (value.len() <= LONGEST).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_key_fits_into_a_header() {
        assert_eq!(value("main-\"x\" $(id)").unwrap(), "main-\"x\" $(id)");
        assert_eq!(value("é").unwrap(), "=?UTF-8?B?w6k=?=");
        assert_eq!(value("a\r\nb").unwrap(), "=?UTF-8?B?YQ0KYg==?=");
        assert_eq!(value(&"k".repeat(2000)), None);
    }
}
