//! What blobs, instances and streams are called.

use bytes::Bytes;
use prost::Message as _;
use strata_cas::BlobId;
use strata_cas::entry::Need;
use strata_oci::far::{FarBlob, FarName};
use tonic::Status;

use crate::depot::{Content, Depot, Piece, Upload, need_of};
use crate::fault::Fault;
use strata_reapi::proto::{self, BLAKE3, SHA256};

/// A blob's name by one of the functions that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobName {
    hash: Hash,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256(strata_oci::Digest),
    Blake3(BlobId),
}

impl BlobName {
    /// Reads a digest; 0 is a function that was not told, which for this length is SHA-256.
    pub(crate) fn new(digest: &proto::Digest, function: i32) -> Result<Self, Status> {
        let size = u64::try_from(digest.size_bytes);
        let size = size.map_err(|_| Status::invalid_argument("a size is negative"))?;
        Self::parse(&digest.hash, size, function)
    }

    /// The same for a digest as it came.
    pub(crate) fn decode(digest: &Bytes, function: i32) -> Result<Self, Status> {
        let digest = proto::DigestAsked::decode(digest.clone());
        let digest = digest.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let hash = std::str::from_utf8(&digest.hash);
        let hash = hash.map_err(|_| Status::invalid_argument("a digest is not UTF-8"))?;
        let size = u64::try_from(digest.size_bytes);
        let size = size.map_err(|_| Status::invalid_argument("a size is negative"))?;
        Self::parse(hash, size, function)
    }

    /// The same for one that must be there.
    pub(crate) fn wanted(digest: Option<&proto::Digest>, function: i32) -> Result<Self, Status> {
        let digest = digest.ok_or_else(|| Status::invalid_argument("a digest is missing"))?;
        Self::new(digest, function)
    }

    pub(crate) fn parse(hash: &str, size: u64, function: i32) -> Result<Self, Status> {
        let wrong = || Status::invalid_argument(format!("`{}` is no digest", hash.escape_debug()));
        // Both have the same form.
        let id = || hash.parse::<BlobId>().map_err(|_| wrong());
        let hash = match function {
            0 | SHA256 => Hash::Sha256(strata_oci::Digest::from_bytes(*id()?.as_bytes())),
            BLAKE3 => Hash::Blake3(id()?),
            _ => return Err(Status::invalid_argument("digests here are SHA-256 or BLAKE3")),
        };
        Ok(Self { hash, size })
    }

    /// The hash in hexadecimal.
    pub(crate) fn hex(&self) -> String {
        match &self.hash {
            Hash::Sha256(digest) => digest.hex(),
            Hash::Blake3(id) => id.to_string(),
        }
    }

    /// The function's name.
    pub(crate) fn function(&self) -> &'static str {
        match &self.hash {
            Hash::Sha256(_) => "sha256",
            Hash::Blake3(_) => "blake3",
        }
    }

    /// Finds the blob, if it has this size. The empty one is always there.
    pub(crate) fn find(&self, depot: &Depot) -> Result<Option<Content>, Fault> {
        if self.is_empty() {
            return Ok(Some(Content::default()));
        }
        let found = match &self.hash {
            Hash::Sha256(digest) => depot.find_sized(digest, Some(self.size))?,
            Hash::Blake3(id) => depot.find_id(id, Some(self.size))?,
        };
        Ok(found.filter(|content| content.size == self.size))
    }

    /// Whether the blob needs not come: somebody who does not answer has nothing.
    pub(crate) fn is_here(&self, depot: &Depot) -> Result<bool, Fault> {
        let found = match &self.hash {
            _ if self.is_empty() => return Ok(true),
            Hash::Sha256(digest) => depot.has(digest, self.size),
            Hash::Blake3(_) => self.find(depot).map(|found| found.is_some()),
        };
        match found {
            Err(Fault::Busy(_)) => Ok(false),
            found => found,
        }
    }

    /// Its name far away, unless it is near.
    pub(crate) fn not_near(&self, depot: &Depot) -> Result<Option<FarBlob>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        let (found, name) = match &self.hash {
            Hash::Sha256(digest) => (depot.find_near(digest)?, FarName::Sha256(*digest)),
            Hash::Blake3(id) => (depot.find_id_near(id)?, FarName::Blake3(*id)),
        };
        let is_near = found.is_some_and(|content| content.size == self.size);
        Ok((!is_near).then_some(FarBlob { name, size: Some(self.size) }))
    }

    fn is_empty(&self) -> bool {
        self.size == 0
            && match &self.hash {
                Hash::Sha256(digest) => *digest == strata_oci::Digest::of(b""),
                Hash::Blake3(id) => *id == BlobId::of(b""),
            }
    }

    /// Keeps an upload, if its bytes are this blob's.
    pub(crate) fn keep(&self, depot: &Depot, upload: Upload) -> Result<(), Fault> {
        if upload.size() != self.size {
            let text = format!("{} bytes came, and {} were announced", upload.size(), self.size);
            return Err(Fault::Mismatch(text));
        }
        match &self.hash {
            Hash::Sha256(digest) => depot.keep(upload, Some(digest)).map(drop),
            Hash::Blake3(id) if upload.id() == *id => depot.keep_by_id(upload).map(drop),
            Hash::Blake3(id) => {
                let text = format!("the bytes are {}, and {id} was announced", upload.id());
                Err(Fault::Mismatch(text))
            }
        }
    }

    /// The name that an upload would have, by this name's function.
    pub(crate) fn of_upload(
        &self,
        upload: &Upload,
        size: u64,
    ) -> Result<(proto::Digest, Self), Fault> {
        let hash = match &self.hash {
            Hash::Sha256(_) => Hash::Sha256(upload.digest()),
            Hash::Blake3(_) => Hash::Blake3(upload.id()),
        };
        let name = Self { hash, size };
        let too_large = |_| Fault::invalid("a blob is too large");
        let size_bytes = i64::try_from(size).map_err(too_large)?;
        Ok((proto::Digest { hash: name.hex(), size_bytes }, name))
    }

    /// What an entry needs that needs this blob, which was found as `content`.
    pub(crate) fn needs(&self, content: &Content) -> Vec<Need> {
        match (&content.pieces[..], &self.hash) {
            ([_], Hash::Sha256(digest)) => vec![need_of(digest)],
            (pieces, _) => pieces.iter().map(Piece::need).collect(),
        }
    }
}

/// Words of the names of streams, which no part of an instance's name may be
/// (`remote_execution.proto`).
const RESERVED: [&str; 7] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
];

/// An instance's name: parts of letters, digits and a few signs, with slashes between them.
pub(crate) fn instance(name: &str) -> Result<&str, Status> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=@:".contains(&byte);
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(sign)
            && part != ".."
            && part != "."
            && !RESERVED.contains(&part)
    };
    if name.is_empty() || name.len() <= 256 && name.split('/').all(is_part) {
        Ok(name)
    } else {
        Err(Status::invalid_argument("this is no name of an instance"))
    }
}

/// What a stream of bytes is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) name: BlobName,
    pub(crate) is_compressed: bool,
}

impl Resource {
    /// `{instance/}blobs/{function/}{hash}/{size}`, or `compressed-blobs/zstd/` in its place.
    pub(crate) fn to_read(text: &str) -> Result<Self, Status> {
        let (before, rest) = cut(text, &["blobs", "compressed-blobs"])?;
        instance(&before.join("/"))?;
        Self::parse(&rest, false)
    }

    /// `{instance/}uploads/{id}/…`, the same, and whatever the client adds to it.
    pub(crate) fn to_write(text: &str) -> Result<Self, Status> {
        let (before, rest) = cut(text, &["uploads"])?;
        instance(&before.join("/"))?;
        match rest.get(1) {
            Some(id) if !id.is_empty() && id.len() <= 128 => {}
            _ => return Err(unknown(text)),
        }
        Self::parse(&rest[2..], true)
    }

    fn parse(parts: &[&str], more: bool) -> Result<Self, Status> {
        let unknown = || unknown(&parts.join("/"));
        let (is_compressed, parts) = match parts {
            ["blobs", rest @ ..] => (false, rest),
            ["compressed-blobs", "zstd", rest @ ..] => (true, rest),
            ["compressed-blobs", ..] => {
                return Err(Status::invalid_argument(
                    "zstd is the compression that is served here",
                ));
            }
            _ => return Err(unknown()),
        };
        let (function, parts) = match parts {
            ["blake3", rest @ ..] => (BLAKE3, rest),
            rest => (0, rest),
        };
        let [hash, size, rest @ ..] = parts else { return Err(unknown()) };
        if !rest.is_empty() && !more {
            return Err(unknown());
        }
        let size = size.parse().map_err(|_| unknown())?;
        Ok(Self { name: BlobName::parse(hash, size, function)?, is_compressed })
    }
}

fn cut<'a>(text: &'a str, words: &[&str]) -> Result<(Vec<&'a str>, Vec<&'a str>), Status> {
    let mut parts: Vec<&str> = text.split('/').collect();
    let at = parts.iter().position(|part| words.contains(part)).ok_or_else(|| unknown(text))?;
    let rest = parts.split_off(at);
    Ok((parts, rest))
}

fn unknown(text: &str) -> Status {
    Status::invalid_argument(format!("`{}` is no name of a blob", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams() {
        let hash = BlobId::of(b"x").to_string();
        let sha256 = BlobName::parse(&hash, 7, 0).expect("a digest");
        let blake3 = BlobName::parse(&hash, 7, BLAKE3).expect("a digest");
        let read = |text: String, name: BlobName, is_compressed| {
            let expected = Resource { name, is_compressed };
            assert_eq!(Resource::to_read(&text).expect(&text), expected, "{text}");
        };
        read(format!("blobs/{hash}/7"), sha256, false);
        read(format!("foo/bar/blobs/{hash}/7"), sha256, false);
        read(format!("blobs/blake3/{hash}/7"), blake3, false);
        read(format!("x/compressed-blobs/zstd/{hash}/7"), sha256, true);
        read(format!("compressed-blobs/zstd/blake3/{hash}/7"), blake3, true);
        let write = format!("foo/uploads/a-b/blobs/{hash}/7/some/name.o");
        assert_eq!(Resource::to_write(&write).expect("fine").name, sha256);
        let write = format!("uploads/a-b/compressed-blobs/zstd/blake3/{hash}/7");
        assert!(Resource::to_write(&write).expect("fine").is_compressed);
        for bad in [
            String::new(),
            format!("blobs/{hash}"),
            format!("blobs/{hash}/-1"),
            format!("blobs/{hash}/7/x"),
            format!("blobs/{}/7", &hash[1..]),
            format!("blobs/{}/7", hash.to_uppercase()),
            format!("../blobs/{hash}/7"),
            format!("compressed-blobs/brotli/{hash}/7"),
            format!("uploads/blobs/{hash}/7"),
            format!("a//b/blobs/{hash}/7"),
        ] {
            assert!(Resource::to_read(&bad).is_err(), "{bad}");
        }
        assert!(Resource::to_write(&format!("uploads/blobs/{hash}/7")).is_err());
    }
}
