//! What builds fetch besides images: the façade asks, `strata-remote` answers, and neither knows
//! the other.

use std::fs::File;

use strata_build::{
    Caller, CheckedOut, CheckoutPlaces, Commit, Credentials, Downloaded, FetchError, Fetcher,
    Validators,
};
use strata_plan::{GitSource, HttpSource};
use strata_remote::{
    GitError, HttpAnswer, HttpClient, HttpError, HttpRequest, RegistrySettings, Repository, Secret,
    authorization,
};

/// Downloads over HTTP, and repositories through `git`.
pub(crate) struct RemoteFetcher {
    http: HttpClient,
}

impl RemoteFetcher {
    /// With the timeouts and the proxy that registries are spoken to with.
    pub(crate) fn new(settings: RegistrySettings) -> Self {
        Self { http: HttpClient::new(settings) }
    }
}

impl Fetcher for RemoteFetcher {
    fn download(
        &self,
        source: &HttpSource,
        known: Option<&Validators>,
        into: &mut File,
        caller: Caller<'_>,
    ) -> Result<Downloaded, FetchError> {
        let authorization = for_download(&source.url, caller.credentials);
        let request = HttpRequest {
            authorization: authorization.as_ref(),
            url: &source.url,
            etag: known.and_then(|known| known.etag.as_deref()),
            last_modified: known.and_then(|known| known.last_modified.as_deref()),
        };
        let answer = self.http.get(&request, into, &|| caller.cancel.is_cancelled());
        match answer.map_err(of_http)? {
            HttpAnswer::NotModified => Ok(Downloaded::Unchanged),
            HttpAnswer::File { etag, last_modified, modified } => {
                let validators = Validators { etag, last_modified };
                Ok(Downloaded::File { validators, modified })
            }
        }
    }

    fn commit(&self, source: &GitSource, caller: Caller<'_>) -> Result<Commit, FetchError> {
        let authorization = for_repository(&source.remote, caller.credentials);
        let repository = repository(source, authorization.as_ref());
        let commit = repository.commit(&|| caller.cancel.is_cancelled()).map_err(of_git)?;
        Ok(Commit { id: commit.id, tag: commit.tag })
    }

    fn check_out(
        &self,
        source: &GitSource,
        commit: &str,
        places: CheckoutPlaces<'_>,
        caller: Caller<'_>,
    ) -> Result<CheckedOut, FetchError> {
        let CheckoutPlaces { scratch, into } = places;
        let is_cancelled = || caller.cancel.is_cancelled();
        let authorization = for_repository(&source.remote, caller.credentials);
        let repository = repository(source, authorization.as_ref());
        let checkout = repository.check_out(commit, scratch, into, &is_cancelled);
        let checkout = checkout.map_err(of_git)?;
        Ok(CheckedOut { root: checkout.root, committed: checkout.committed })
    }
}

/// The header for a download: a secret that names the host, as `HTTP_AUTH_HEADER_example.org`.
fn for_download(url: &str, credentials: &Credentials) -> Option<Secret> {
    hosts(url).into_iter().find_map(|host| {
        let header = text_of(credentials, &format!("HTTP_AUTH_HEADER_{host}"));
        let token = || text_of(credentials, &format!("HTTP_AUTH_TOKEN_{host}"));
        header.map(authorization::verbatim).or_else(|| token().map(authorization::bearer))
    })
}

/// The header for a repository behind http: `GIT_AUTH_TOKEN.example.org`, or `GIT_AUTH_TOKEN` for
/// all hosts.
fn for_repository(remote: &str, credentials: &Credentials) -> Option<Secret> {
    let hosts = hosts(remote);
    if hosts.is_empty() {
        return None;
    }
    let suffixes = hosts.iter().map(|host| format!(".{host}")).chain([String::new()]);
    suffixes.into_iter().find_map(|suffix| {
        let header = text_of(credentials, &format!("GIT_AUTH_HEADER{suffix}"));
        let token = || text_of(credentials, &format!("GIT_AUTH_TOKEN{suffix}"));
        header.map(authorization::verbatim).or_else(|| token().map(authorization::git_token))
    })
}

/// The host of a URL of http, with its port and without.
fn hosts(url: &str) -> Vec<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return Vec::new() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => vec![host, name],
        _ => vec![host],
    }
}

fn text_of<'a>(credentials: &'a Credentials, id: &str) -> Option<&'a str> {
    std::str::from_utf8(credentials.secret(id)?.expose()).ok()
}

fn repository<'a>(source: &'a GitSource, authorization: Option<&'a Secret>) -> Repository<'a> {
    Repository {
        authorization,
        remote: &source.remote,
        reference: source.reference.as_deref(),
        subdirectory: &source.subdirectory,
        keep_git_dir: source.keep_git_dir,
        submodules: source.submodules,
    }
}

fn of_http(error: HttpError) -> FetchError {
    match error {
        HttpError::Unreachable(reason) => FetchError::Unreachable(reason),
        HttpError::Refused(reason) => FetchError::Refused(reason),
        HttpError::Sink(source) => FetchError::Io { action: "keep its bytes".to_owned(), source },
        HttpError::Cancelled => FetchError::Cancelled,
    }
}

fn of_git(error: GitError) -> FetchError {
    match error {
        GitError::Missing => FetchError::NoGit,
        GitError::Failed(reason) => FetchError::Refused(reason),
        GitError::Cancelled => FetchError::Cancelled,
        GitError::Io { action, source } => FetchError::Io { action: action.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_their_hosts() {
        let mut credentials = Credentials::default();
        let secrets = [
            ("HTTP_AUTH_TOKEN_a.org", "t"),
            ("HTTP_AUTH_HEADER_b.org:81", "Basic x"),
            ("GIT_AUTH_TOKEN", "g"),
            ("GIT_AUTH_HEADER.a.org", "Basic y"),
        ];
        for (id, value) in secrets {
            credentials.add_secret(id, strata_exec::Secret::new(value.as_bytes().to_vec()));
        }
        let download = |url| for_download(url, &credentials).map(|it| it.reveal().to_owned());
        assert_eq!(download("https://a.org/x").as_deref(), Some("Bearer t"));
        assert_eq!(download("http://u:p@a.org:8080?x").as_deref(), Some("Bearer t"));
        assert_eq!(download("http://b.org:81/").as_deref(), Some("Basic x"));
        for other in ["http://b.org/", "http://xa.org/", "https://a.org.evil/", "git@a.org:x"] {
            assert_eq!(download(other), None, "{other}");
        }
        let git = |url| for_repository(url, &credentials).map(|it| it.reveal().to_owned());
        assert_eq!(git("https://a.org/x.git").as_deref(), Some("Basic y"));
        assert_eq!(git("https://c.org/x.git"), Some("basic eC1hY2Nlc3MtdG9rZW46Zw==".to_owned()));
        assert_eq!(git("git://a.org/x.git"), None);
        assert_eq!(git("git@a.org:x.git"), None);
    }
}
