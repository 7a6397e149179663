//! Values of certain URL parameters (`?private_token=…`) are masked, whoever they belong to.
//!
//! Names are no secrets, so nothing is ever held back here: a value's first byte is replaced by the
//! mask and the rest of it swallowed.

use serde::{Deserialize, Serialize};

use super::Symbol;

/// Parameters whose values are masked, in lower case; the case does not matter in the log.
/// Each ends with `=`, and none is the beginning of another one.
pub(super) const PARAMETERS: [&[u8]; 6] = [
    b"private_token=",
    b"authenticity_token=",
    b"rss_token=",
    b"x-amz-signature=",
    b"x-amz-credential=",
    b"x-amz-security-token=",
];

const ALL: u8 = (1 << PARAMETERS.len()) - 1;

/// Where one stream is within a URL's query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UrlState {
    /// Not in a name that matters.
    #[default]
    Idle,
    /// `len` bytes after `?` or `&`, which fit the parameters of the bit set `fits`.
    Name { fits: u8, len: u8 },
    /// After the `=` of a parameter; `masked`: the mask is out.
    Value { masked: bool },
}

impl UrlState {
    pub(super) fn is_idle(self) -> bool {
        self == Self::Idle
    }

    /// Takes one byte or mask; what comes out of it goes to `out` at once.
    pub(super) fn push(&mut self, symbol: Symbol, mut out: impl FnMut(Symbol)) {
        if let Self::Value { masked } = self {
            if !matches!(symbol, Symbol::Byte(byte) if ends_value(byte)) {
                if !*masked {
                    out(Symbol::Mask);
                    *masked = true;
                }
                return;
            }
            *self = Self::Idle;
        }
        out(symbol);
        *self = match (*self, symbol) {
            (_, Symbol::Byte(b'?' | b'&')) => Self::Name { fits: ALL, len: 0 },
            (Self::Name { fits, len }, Symbol::Byte(byte)) => {
                Self::after_name_byte(fits, len, byte)
            }
            _ => Self::Idle,
        };
    }

    fn after_name_byte(fits: u8, len: u8, byte: u8) -> Self {
        let (mut still, mut whole) = (0, false);
        for (index, name) in PARAMETERS.iter().enumerate() {
            let at = usize::from(len);
            if fits & (1 << index) != 0 && name.get(at) == Some(&byte.to_ascii_lowercase()) {
                still |= 1 << index;
                whole |= at + 1 == name.len();
            }
        }
        match (still, whole) {
            (0, _) => Self::Idle,
            (_, true) => Self::Value { masked: false },
            (fits, false) => Self::Name { fits, len: len + 1 },
        }
    }

    /// Whether a state that was read from a checkpoint can exist.
    pub(super) fn is_possible(self) -> bool {
        !matches!(self, Self::Name { len, .. } if usize::from(len) > 32)
    }
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | 0..=b' ' | 0x7f)
}
