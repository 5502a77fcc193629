//! What `[serve.far]` in the configuration file says.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Secret, read};
use crate::tier::FarWrites;

/// For an answer that is small, in seconds.
const TIMEOUT: u64 = 5;
const QUEUE: usize = 100_000;

/// `[serve.far]`: what lies behind the store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FarTable {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FarKind,
    /// What becomes of what clients write.
    pub write: Option<FarWrites>,
    /// How long an answer that is small may take, in seconds.
    pub timeout: Option<u64>,
    /// How much may wait to be sent.
    pub queue: Option<usize>,
    /// The bucket's name.
    pub bucket: Option<String>,
    /// Before the name of each object.
    #[serde(default)]
    pub prefix: String,
    /// The bucket's region.
    pub region: Option<String>,
    /// Another service than Amazon's.
    pub endpoint_url: Option<String>,
    /// Whether the bucket is part of the path and not of the host's name.
    pub use_path_style: Option<bool>,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// A file with its secret.
    pub secret_access_key_file: Option<PathBuf>,
    /// A directory.
    pub path: Option<PathBuf>,
    /// Another server: `grpc://HOST:PORT`, and an instance after that.
    pub url: Option<String>,
    /// A file with the token for it.
    pub token_file: Option<PathBuf>,
    /// A file with the authorities of its certificate, besides the system's.
    pub cacert: Option<PathBuf>,
    /// A file with our certificate for it.
    pub cert: Option<PathBuf>,
    /// A file with the key of that.
    pub key: Option<PathBuf>,
}

/// What a far tier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FarKind {
    /// A bucket of an S3-compatible object store.
    S3,
    /// Another server that speaks the remote execution API.
    Reapi,
    /// A directory that several machines see.
    Local,
}

impl FarKind {
    fn word(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Reapi => "reapi",
            Self::Local => "local",
        }
    }
}

impl FarTable {
    /// What becomes of what clients write.
    pub fn writes(&self) -> FarWrites {
        self.write.unwrap_or(FarWrites::Through)
    }

    /// How long an answer that is small may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(TIMEOUT).max(1))
    }

    /// How much may wait to be sent.
    pub fn queue_limit(&self) -> usize {
        self.queue.unwrap_or(QUEUE)
    }

    /// The secret access key, from its file.
    ///
    /// # Errors
    ///
    /// When the file can not be read.
    pub fn secret_access_key(&self) -> Result<Option<Secret>, ConfigError> {
        secret(self.secret_access_key_file.as_ref())
    }

    /// The token, from its file.
    ///
    /// # Errors
    ///
    /// When the file can not be read.
    pub fn token(&self) -> Result<Option<Secret>, ConfigError> {
        secret(self.token_file.as_ref())
    }

    /// The authorities to trust, as PEM, from their file.
    ///
    /// # Errors
    ///
    /// When the file can not be read.
    pub fn authorities(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        self.cacert.as_deref().map(read).transpose()
    }

    /// Our certificate and its key, as PEM, from their files.
    ///
    /// # Errors
    ///
    /// When a file can not be read.
    pub fn identity(&self) -> Result<Option<(Vec<u8>, Secret)>, ConfigError> {
        let certificate = self.cert.as_deref().map(read).transpose()?;
        Ok(certificate.zip(secret(self.key.as_ref())?))
    }

    /// Whether what its type needs is there, and nothing that is another type's.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |reason: String| ConfigError::Far(reason);
        let keys = [
            ("bucket", FarKind::S3, self.bucket.is_some()),
            ("prefix", FarKind::S3, !self.prefix.is_empty()),
            ("region", FarKind::S3, self.region.is_some()),
            ("endpoint-url", FarKind::S3, self.endpoint_url.is_some()),
            ("use-path-style", FarKind::S3, self.use_path_style.is_some()),
            ("access-key-id", FarKind::S3, self.access_key_id.is_some()),
            ("secret-access-key-file", FarKind::S3, self.secret_access_key_file.is_some()),
            ("path", FarKind::Local, self.path.is_some()),
            ("url", FarKind::Reapi, self.url.is_some()),
            ("token-file", FarKind::Reapi, self.token_file.is_some()),
            ("cacert", FarKind::Reapi, self.cacert.is_some()),
            ("cert", FarKind::Reapi, self.cert.is_some()),
            ("key", FarKind::Reapi, self.key.is_some()),
        ];
        for (key, of, is_there) in keys {
            if is_there && of != self.kind {
                let (of, kind) = (of.word(), self.kind.word());
                return Err(wrong(format!("`{key}` is a key of the type `{of}`, not of `{kind}`")));
            }
        }
        let needed = match self.kind {
            FarKind::S3 => ("bucket", self.bucket.is_some()),
            FarKind::Reapi => ("url", self.url.is_some()),
            FarKind::Local => ("path", self.path.is_some()),
        };
        if !needed.1 {
            return Err(wrong(format!("the type `{}` needs `{}`", self.kind.word(), needed.0)));
        }
        if self.access_key_id.is_some() != self.secret_access_key_file.is_some() {
            let reason = "`access-key-id` and `secret-access-key-file` need each other";
            return Err(wrong(reason.to_owned()));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(wrong("`cert` and `key` need each other".to_owned()));
        }
        Ok(())
    }
}

fn secret(path: Option<&PathBuf>) -> Result<Option<Secret>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    let wrong = || ConfigError::Far(format!("`{}` is no text", path.display()));
    let text = String::from_utf8(read(path)?).map_err(|_| wrong())?;
    Ok(Some(Secret::new(text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_types() {
        let check = |text: &str, expected: &str| {
            let table: FarTable = toml_of(text);
            let found = table.check().map_err(|error| error.to_string());
            match expected {
                "" => assert_eq!(found, Ok(()), "{text}"),
                _ => assert!(found.expect_err(text).contains(expected), "{text}"),
            }
        };
        check(r#"{"type": "s3", "bucket": "b"}"#, "");
        check(r#"{"type": "local", "path": "/x", "write": "none"}"#, "");
        check(r#"{"type": "reapi", "url": "grpc://h:1"}"#, "");
        let half = r#"{"type": "reapi", "url": "grpcs://h:1", "cert": "/x"}"#;
        check(half, "`cert` and `key` need each other");
        check(r#"{"type": "s3"}"#, "needs `bucket`");
        check(r#"{"type": "local", "path": "/x", "region": "r"}"#, "`region` is a key of the type");
        check(r#"{"type": "s3", "bucket": "b", "access-key-id": "k"}"#, "need each other");
    }

    fn toml_of(json: &str) -> FarTable {
        serde_json::from_str(json).expect(json)
    }
}
