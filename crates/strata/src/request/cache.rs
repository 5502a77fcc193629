//! `--cache-from` and `--cache-to`: where other machines' steps are, in Docker's form.

use std::path::PathBuf;

use strata_oci::Reference;
use strata_remote::{ReapiSettings, S3Settings, Secret, Timeouts};

use super::options::unknown;
use super::output::{flag, pieces};
use crate::environment::Environment;
use crate::failure::{Failure, plain};

const TYPES: [&str; 4] = ["registry", "local", "s3", "reapi"];

/// A cache that other machines use, too.
#[derive(Clone)]
pub(crate) struct Cache {
    pub(crate) kind: CacheKind,
    /// Only steps of the image itself go there (`mode=min`).
    pub(crate) image_only: bool,
}

/// Where it is.
#[derive(Clone)]
pub(crate) enum CacheKind {
    /// A repository.
    Registry {
        /// Its name.
        name: Reference,
        /// Whether plain http will do.
        insecure: bool,
    },
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    S3(Box<S3Settings>),
    /// A server of the remote execution API.
    Reapi(Box<ReapiSettings>),
}

impl Cache {
    /// The registry that is to be spoken to over plain http.
    pub(crate) fn insecure_registry(&self) -> Option<String> {
        match &self.kind {
            CacheKind::Registry { name, insecure: true } => Some(name.registry.clone()),
            _ => None,
        }
    }

    /// What is remembered with a layer that is there.
    pub(crate) fn place(&self) -> String {
        match &self.kind {
            CacheKind::Registry { name, .. } => {
                let name = Reference { tag: None, digest: None, ..name.clone() };
                format!("registry:{name}")
            }
            CacheKind::Directory(path) => format!("directory:{}", path.display()),
            CacheKind::S3(settings) => s3_place(settings),
            CacheKind::Reapi(settings) => format!("{REAPI}{}", settings.url),
        }
    }
}

const REAPI: &str = "reapi:";

/// The server that a place names, with the token that the environment has.
pub(crate) fn reapi_of_place(place: &str, environment: &Environment) -> Option<ReapiSettings> {
    let url = place.strip_prefix(REAPI)?.to_owned();
    let known = |_: &str| None;
    reapi_settings(url, known, environment).ok()
}

/// Keys of a server, and what the environment says to those that it does not have: the token
/// itself, and files.
const TOKEN_FILE: &str = "token-file";
const TOKEN: &str = "STRATA_REMOTE_TOKEN";
const FILES: [(&str, &str); 3] = [
    ("cacert", "STRATA_REMOTE_CACERT"),
    ("cert", "STRATA_REMOTE_CERT"),
    ("key", "STRATA_REMOTE_KEY"),
];

fn reapi_settings(
    url: String,
    mut take: impl FnMut(&str) -> Option<String>,
    environment: &Environment,
) -> Result<ReapiSettings, String> {
    let read = |path: String| {
        std::fs::read(&path).map_err(|error| format!("cannot read `{path}`: {}", plain(&error)))
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let token = match take(TOKEN_FILE) {
        None => environment.text(TOKEN),
        Some(path) => Some(text(read(path)?)),
    };
    let mut file = |(key, variable): (&str, &str)| {
        take(key).or_else(|| environment.text(variable)).map(read).transpose()
    };
    let [authorities, certificate, key] = FILES.map(&mut file);
    let identity = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some((certificate, Secret::new(text(key)))),
        (None, None) => None,
        _ => return Err("`cert=` and `key=` need each other".to_owned()),
    };
    let (token, timeouts) = (token.map(|token| Secret::new(token.trim())), timeouts());
    Ok(ReapiSettings { url, token, authorities: authorities?, identity, timeouts })
}

/// What `--remote` means: one cache, to read and to write.
pub(crate) fn remote(text: &str, environment: &Environment) -> Result<Cache, Failure> {
    let invalid = |why: String| Failure::usage(format!("`--remote {text}`: {why}"));
    strata_remote::check_reapi_url(text).map_err(invalid)?;
    let settings = reapi_settings(text.to_owned(), |_| None, environment).map_err(invalid)?;
    Ok(Cache { kind: CacheKind::Reapi(Box::new(settings)), image_only: false })
}

/// All that is needed to find a bucket again, but for who we are to it.
fn s3_place(settings: &S3Settings) -> String {
    let style = if settings.path_style { "path" } else { "host" };
    let region = settings.region.as_deref().unwrap_or_default();
    let endpoint = settings.endpoint.as_deref().unwrap_or_default();
    format!("s3:{} {} {region} {style} {endpoint}", settings.bucket, encoded(&settings.prefix))
}

fn encoded(prefix: &str) -> &str {
    if prefix.is_empty() { "/" } else { prefix }
}

/// The bucket that a place names, with the keys that the environment has.
pub(crate) fn s3_of_place(place: &str, environment: &Environment) -> Option<S3Settings> {
    let mut parts = place.strip_prefix("s3:")?.splitn(5, ' ');
    let bucket = parts.next()?.to_owned();
    let prefix = parts.next()?.trim_matches('/').to_owned();
    let region = Some(parts.next()?.to_owned()).filter(|region| !region.is_empty());
    let path_style = parts.next()? == "path";
    let endpoint = parts.next().map(str::to_owned).filter(|endpoint| !endpoint.is_empty());
    let (key, session_token) = key(None, None, environment);
    let timeouts = timeouts();
    Some(S3Settings { bucket, prefix, region, endpoint, key, session_token, path_style, timeouts })
}

fn timeouts() -> Timeouts {
    use std::time::Duration;
    Timeouts { connect: Duration::from_secs(5), idle: Duration::from_secs(15) }
}

fn key(
    id: Option<String>,
    secret: Option<String>,
    environment: &Environment,
) -> (Option<(String, Secret)>, Option<Secret>) {
    let id = id.or_else(|| environment.text("AWS_ACCESS_KEY_ID"));
    let secret = secret.or_else(|| environment.text("AWS_SECRET_ACCESS_KEY"));
    let token = environment.text("AWS_SESSION_TOKEN").map(Secret::new);
    (id.zip(secret.map(Secret::new)), token)
}

/// All caches of one flag.
pub(crate) fn caches(
    flag: &'static str,
    texts: &[String],
    environment: &Environment,
) -> Result<Vec<Cache>, Failure> {
    texts.iter().map(|text| cache(flag, text, environment)).collect()
}

fn cache(name: &'static str, text: &str, environment: &Environment) -> Result<Cache, Failure> {
    let invalid = |why: &str| Failure::usage(format!("`{name} {text}`: {why}"));
    // A name alone is an image's in a registry, as Docker has it.
    if !text.contains('=') {
        let name: Reference = text.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let kind = CacheKind::Registry { name, insecure: false };
        return Ok(Cache { kind, image_only: false });
    }
    let mut fields = std::collections::BTreeMap::new();
    for field in pieces(text).map_err(invalid)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(invalid(&format!("`{field}` has no `=`")));
        };
        if fields.insert(key.trim().to_ascii_lowercase(), value.to_owned()).is_some() {
            return Err(invalid(&format!("`{key}` is there twice")));
        }
    }
    let kind = fields.remove("type").ok_or_else(|| invalid("`type=` is missing"))?;
    let image_only = match fields.remove("mode").as_deref() {
        None | Some("max") => false,
        Some("min") => true,
        Some(other) => return Err(unknown("mode", other, &["min", "max"])),
    };
    let mut taken = Fields { fields, invalid: &invalid };
    let kind = match kind.as_str() {
        "registry" => taken.registry()?,
        "local" => taken.local(name)?,
        "s3" => taken.s3(environment)?,
        "reapi" => taken.reapi(environment)?,
        "inline" | "gha" | "azblob" => {
            return Err(invalid(&format!("`type={kind}` is not supported"))
                .hint("`registry`, `local`, `s3` and `reapi` are"));
        }
        other => return Err(unknown(&format!("type of `{name}`"), other, &TYPES)),
    };
    taken.nothing_left()?;
    Ok(Cache { kind, image_only })
}

struct Fields<'a> {
    fields: std::collections::BTreeMap<String, String>,
    invalid: &'a dyn Fn(&str) -> Failure,
}

impl Fields<'_> {
    fn take(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name).filter(|value| !value.is_empty())
    }

    fn needed(&mut self, name: &str) -> Result<String, Failure> {
        self.take(name).ok_or_else(|| (self.invalid)(&format!("`{name}=` is missing")))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        let value = self.fields.remove(name);
        flag(&value, false).map_err(|why| (self.invalid)(&why))
    }

    fn registry(&mut self) -> Result<CacheKind, Failure> {
        let text = self.needed("ref")?;
        let name = text.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let insecure = self.flag("registry.insecure")?;
        Ok(CacheKind::Registry { name, insecure })
    }

    fn local(&mut self, flag: &str) -> Result<CacheKind, Failure> {
        let key = if flag == "--cache-from" { "src" } else { "dest" };
        let path = PathBuf::from(self.needed(key)?);
        let path = std::path::absolute(&path).unwrap_or(path);
        if key == "src" && path.exists() && !path.is_dir() {
            return Err((self.invalid)(&format!("`{}` is not a directory", path.display())));
        }
        Ok(CacheKind::Directory(path))
    }

    fn s3(&mut self, environment: &Environment) -> Result<CacheKind, Failure> {
        let bucket = match self.take("bucket").or_else(|| environment.text("AWS_BUCKET")) {
            Some(bucket) => bucket,
            None => return Err((self.invalid)("`bucket=` is missing")),
        };
        let region = self.take("region").or_else(|| environment.text("AWS_REGION"));
        let prefix = self.take("prefix").unwrap_or_default().trim_matches('/').to_owned();
        if prefix.contains(' ') || bucket.contains(' ') {
            return Err((self.invalid)("a space in a name is not supported"));
        }
        let endpoint = self.take("endpoint_url");
        let (id, secret) = (self.take("access_key_id"), self.take("secret_access_key"));
        let (key, mut session_token) = key(id, secret, environment);
        if let Some(token) = self.take("session_token") {
            session_token = Some(Secret::new(token));
        }
        let path_style = self.flag("use_path_style")? || endpoint.is_some();
        let timeouts = timeouts();
        Ok(CacheKind::S3(Box::new(S3Settings {
            bucket,
            prefix,
            region,
            endpoint,
            key,
            session_token,
            path_style,
            timeouts,
        })))
    }

    fn reapi(&mut self, environment: &Environment) -> Result<CacheKind, Failure> {
        let url = self.needed("url")?;
        strata_remote::check_reapi_url(&url).map_err(|why| (self.invalid)(&why))?;
        let settings = reapi_settings(url, |key| self.take(key), environment);
        let settings = settings.map_err(|why| (self.invalid)(&why))?;
        Ok(CacheKind::Reapi(Box::new(settings)))
    }

    /// What is about BuildKit's own way of keeping a cache says nothing here.
    fn nothing_left(&mut self) -> Result<(), Failure> {
        const OF_BUILDKIT: [&str; 13] = [
            "image-manifest",
            "oci-mediatypes",
            "compression",
            "compression-level",
            "force-compression",
            "ignore-error",
            "tag",
            "digest",
            "name",
            "manifests_prefix",
            "blobs_prefix",
            "upload_parallelism",
            "touch_refresh",
        ];
        let left = self.fields.keys().find(|key| !OF_BUILDKIT.contains(&key.as_str()));
        match left {
            None => Ok(()),
            Some(key) => Err((self.invalid)(&format!("`{key}` is no key of this type"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: &'static str, text: &str) -> Result<Cache, Failure> {
        let environment: Environment =
            [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")].into_iter().collect();
        cache(flag, text, &environment)
    }

    #[test]
    fn dockers_forms() {
        let check = |flag, text: &str, expected: &str| {
            let place = read(flag, text).map(|cache| cache.place());
            assert_eq!(place.map_err(|failure| failure.message), Ok(expected.to_owned()), "{text}");
        };
        check("--cache-from", "lan:5000/a:b", "registry:lan:5000/a");
        check("--cache-to", "type=registry,ref=lan:5000/a:b,mode=max", "registry:lan:5000/a");
        check("--cache-from", "type=local,src=/a/b", "directory:/a/b");
        check("--cache-to", "type=local,dest=/a/b,mode=min", "directory:/a/b");
        check("--cache-to", "type=s3,bucket=b,region=r", "s3:b / r host ");
        let minio = "type=s3,bucket=b,prefix=p/q/,endpoint_url=http://h:9";
        check("--cache-to", minio, "s3:b p/q  path http://h:9");
        check("--cache-from", "type=reapi,url=grpc://h:1/i", "reapi:grpc://h:1/i");
    }

    #[test]
    fn a_bucket_is_found_again() {
        let environment: Environment =
            [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")].into_iter().collect();
        let text = "type=s3,bucket=b,prefix=p,endpoint_url=http://h:9,region=r";
        let place = read("--cache-to", text).map(|cache| cache.place());
        let place = place.unwrap_or_else(|failure| failure.message);
        let again = s3_of_place(&place, &environment).expect("a bucket");
        assert_eq!(s3_place(&again), place);
        assert!(again.key.is_some());
    }

    #[test]
    fn a_server_is_a_cache_by_its_url_alone() {
        let environment: Environment = [("STRATA_REMOTE_TOKEN", "token")].into_iter().collect();
        let found =
            remote("grpcs://h:1/i", &environment).unwrap_or_else(|e| panic!("{}", e.message));
        assert_eq!(found.place(), "reapi:grpcs://h:1/i");
        let again = reapi_of_place(&found.place(), &environment).expect("a server");
        assert_eq!(again.url, "grpcs://h:1/i");
        assert!(again.token.is_some_and(|token| token.reveal() == "token"));
        let failure = remote("http://h:1", &environment).err().expect("no such scheme");
        assert!(
            failure.message.starts_with("`--remote http://h:1`: a URL is"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn mistakes_are_named() {
        let check = |flag, text: &str, message: &str| {
            let failure = read(flag, text).err().expect(text);
            assert!(failure.message.contains(message), "{}", failure.message);
            assert_eq!(failure.code(), 2);
        };
        check("--cache-from", "type=local,dest=/a", "`src=` is missing");
        check("--cache-to", "type=registry", "`ref=` is missing");
        check("--cache-to", "type=reapi,url=http://h:1", "a URL is `grpc://HOST:PORT`");
        check("--cache-to", "type=reapi,url=grpc://h:1,token-file=/none", "cannot read `/none`");
        let half = "type=reapi,url=grpcs://h:1,cert=/dev/null";
        check("--cache-to", half, "`cert=` and `key=` need each other");
        check("--cache-to", "type=inline", "is not supported");
        check("--cache-to", "type=reigstry,ref=a", "unknown type of `--cache-to` `reigstry`");
        check("--cache-to", "type=local,dest=/a,colour=red", "`colour` is no key");
        check("--cache-to", "type=local,dest=/a,mode=mid", "unknown mode `mid`");
    }
}
