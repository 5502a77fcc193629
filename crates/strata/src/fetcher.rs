//! What builds fetch besides images: the façade asks, `strata-remote` answers, and neither knows
//! the other.

use std::fs::File;

use strata_build::{CheckedOut, CheckoutPlaces, Downloaded, FetchError, Fetcher, Validators};
use strata_exec::Cancel;
use strata_plan::{GitSource, HttpSource};
use strata_remote::{
    GitError, HttpAnswer, HttpClient, HttpError, HttpRequest, RegistrySettings, Repository,
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
        cancel: &Cancel,
    ) -> Result<Downloaded, FetchError> {
        let request = HttpRequest {
            url: &source.url,
            etag: known.and_then(|known| known.etag.as_deref()),
            last_modified: known.and_then(|known| known.last_modified.as_deref()),
        };
        let answer = self.http.get(&request, into, &|| cancel.is_cancelled());
        match answer.map_err(of_http)? {
            HttpAnswer::NotModified => Ok(Downloaded::Unchanged),
            HttpAnswer::File { etag, last_modified, modified } => {
                let validators = Validators { etag, last_modified };
                Ok(Downloaded::File { validators, modified })
            }
        }
    }

    fn commit(&self, source: &GitSource, cancel: &Cancel) -> Result<String, FetchError> {
        repository(source).commit(&|| cancel.is_cancelled()).map_err(of_git)
    }

    fn check_out(
        &self,
        source: &GitSource,
        commit: &str,
        places: CheckoutPlaces<'_>,
        cancel: &Cancel,
    ) -> Result<CheckedOut, FetchError> {
        let CheckoutPlaces { scratch, into } = places;
        let is_cancelled = || cancel.is_cancelled();
        let checkout = repository(source).check_out(commit, scratch, into, &is_cancelled);
        let checkout = checkout.map_err(of_git)?;
        Ok(CheckedOut { root: checkout.root, committed: checkout.committed })
    }
}

fn repository(source: &GitSource) -> Repository<'_> {
    Repository {
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
