//! The names of values: one type per role, so that they cannot be mixed up.
//! OCI's SHA-256 names are not here; see `strata-oci`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 64 lower-case hexadecimal digits are expected")]
pub struct ParseIdError(String);

/// Ids are written often enough for formatting byte by byte to show: a server that looks for
/// blobs spent a third of its time with it.
fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (two, byte) in text.chunks_exact_mut(2).zip(bytes) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with these 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = hex(&self.0);
                f.write_str(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        /// Hexadecimal in formats for people, 32 bytes in others.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError(text.to_owned()))
            }
        }
    };
}

id! {
    /// Two blobs have the same id exactly when they have the same bytes: plain BLAKE3, as
    /// `b3sum` prints it.
    BlobId
}
id! {
    /// Two trees have the same id exactly when they hold the same paths with the same types,
    /// contents, modes, owners, extended attributes and link targets. Times do not count.
    TreeId
}
id! {
    /// Two layers have the same id exactly when they make the same changes, times included.
    LayerId
}
id! {
    /// Two steps have the same definition key when they do the same to parents that were made
    /// the same way. Known before anything runs.
    DefinitionKey
}
id! {
    /// Two steps have the same content key when they do the same to equal trees, however those
    /// came about. Known once the parents' trees are.
    ContentKey
}

impl BlobId {
    /// Names these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl TreeId {
    /// The blob that holds the tree's root node.
    pub const fn blob(&self) -> BlobId {
        BlobId(self.0)
    }
}

impl LayerId {
    /// The blob that holds the layer's canonical bytes.
    pub const fn blob(&self) -> BlobId {
        BlobId(self.0)
    }
}

impl From<BlobId> for TreeId {
    fn from(id: BlobId) -> Self {
        Self(id.0)
    }
}

impl From<BlobId> for LayerId {
    fn from(id: BlobId) -> Self {
        Self(id.0)
    }
}

/// Names bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct BlobHasher(blake3::Hasher);

impl BlobHasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The name of all bytes so far.
    pub fn finish(&self) -> BlobId {
        BlobId(*self.0.finalize().as_bytes())
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let (mut bytes, mut all) = ([0; 32], 0);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < 16).then_some(bytes)
}

/// What each byte stands for as a hexadecimal digit, by a table: a processor guesses wrong about
/// every other digit of a hash, and a server reads hashes by the million.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_back() {
        let id = BlobId::of(b"abc");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("zz".parse::<BlobId>().is_err());
        assert!(id.to_string().to_uppercase().parse::<BlobId>().is_err());
    }

    #[test]
    fn names_bytes_as_b3sum_does() {
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(BlobId::of(b"").to_string(), expected);
    }
}
