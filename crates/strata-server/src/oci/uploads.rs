//! Blobs on their way in: at once, in pieces, resumed, or taken over from another repository.
//!
//! An upload is a place with an address of its own. What has arrived stays when a request breaks
//! off, and the client is told how much that is. One request at a time adds to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{Response, StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use strata_oci::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{digest_of, fault};
use crate::body::{Body, blocking, receive};
use crate::depot::{Kept, Upload};
use crate::fault::Fault;
use crate::request::{Asked, plain, set};
use crate::site::Site;

/// An upload that nobody touches is given up after so long.
const IDLE: Duration = Duration::from_secs(3600);
const OPEN: usize = 4096;

/// The uploads that are under way.
#[derive(Default)]
pub(crate) struct Uploads {
    all: Mutex<HashMap<String, Session>>,
}

#[derive(Clone)]
struct Session {
    repository: String,
    caller: String,
    touched: Instant,
    /// None once it is done or lost.
    upload: Arc<AsyncMutex<Option<Upload>>>,
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, asked: &Asked, repository: &str, upload: Upload) -> Result<String, Fault> {
        let mut random = [0; 16];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| Fault::Internal("the system gives no random bytes".to_owned()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.all();
        all.retain(|_, session| session.touched.elapsed() < IDLE);
        if all.len() >= OPEN {
            return Err(Fault::Busy("too many uploads are under way".to_owned()));
        }
        let session = Session {
            repository: repository.to_owned(),
            caller: asked.caller.name.clone(),
            touched: Instant::now(),
            upload: Arc::new(AsyncMutex::new(Some(upload))),
        };
        all.insert(id.clone(), session);
        Ok(id)
    }

    /// The upload with this id, if it is this caller's and nobody else is at it.
    fn take(
        &self,
        asked: &Asked,
        repository: &str,
        id: &str,
    ) -> Result<OwnedMutexGuard<Option<Upload>>, Fault> {
        asked.caller.may_write()?;
        let mut all = self.all();
        let session = all.get_mut(id).filter(|session| {
            session.repository == repository && session.caller == asked.caller.name
        });
        let session = session.ok_or_else(|| unknown(id))?;
        session.touched = Instant::now();
        let taken = Arc::clone(&session.upload).try_lock_owned();
        taken.map_err(|_| Fault::Conflict("another request is at this upload".to_owned()))
    }

    fn forget(&self, id: &str) {
        self.all().remove(id);
    }
}

fn unknown(id: &str) -> Fault {
    fault("BLOB_UPLOAD_UNKNOWN", format!("there is no upload `{id}`"))
}

/// `POST /v2/NAME/blobs/uploads/`: begins, or does all of it.
pub(super) async fn post(
    site: &Arc<Site>,
    mut asked: Asked,
    name: &str,
) -> Result<Response<Body>, Fault> {
    asked.caller.may_write()?;
    let wanted = asked.parameter("mount").or(asked.parameter("digest")).map(digest_of);
    let wanted = wanted.transpose()?;
    if asked.parameter("digest-algorithm").is_some_and(|name| name != "sha256") {
        return Err(fault("DIGEST_INVALID", "digests here are SHA-256"));
    }
    if let (Some(_), Some(digest)) = (asked.parameter("mount"), wanted) {
        let depot = Arc::clone(&site.depot);
        if blocking(move || depot.find_if_answered(&digest)).await?.is_some() {
            return Ok(created(name, &digest));
        }
    }
    let depot = Arc::clone(&site.depot);
    asked.check_length(depot.body_limit_bytes)?;
    let (caller, length) = (asked.caller.clone(), asked.length());
    let upload = blocking(move || depot.begin(&caller, u64::MAX, length)).await?;
    match asked.parameter("digest").is_some().then_some(wanted).flatten() {
        Some(digest) => {
            let (upload, received) = receive(upload, &mut asked.body).await;
            received?;
            let kept = keep(site, upload, digest).await?;
            Ok(created(name, &kept.digest))
        }
        None => {
            let id = site.uploads.begin(&asked, name, upload)?;
            Ok(progress(StatusCode::ACCEPTED, name, &id, 0))
        }
    }
}

/// `PATCH …/ID`: adds a piece.
pub(super) async fn patch(
    site: &Arc<Site>,
    asked: Asked,
    name: &str,
    id: &str,
) -> Result<Response<Body>, Fault> {
    let guard = site.uploads.take(&asked, name, id)?;
    let (site, owned) = (Arc::clone(site), id.to_owned());
    // A task of its own: where the client is gone and nobody waits for the answer, what has
    // arrived is put back all the same.
    let adding = tokio::spawn(async move { add(&site, asked, guard, &owned).await });
    let size = adding.await.map_err(|_| Fault::Internal("the server stops".to_owned()))??;
    Ok(progress(StatusCode::ACCEPTED, name, id, size))
}

async fn add(
    site: &Site,
    mut asked: Asked,
    mut guard: OwnedMutexGuard<Option<Upload>>,
    id: &str,
) -> Result<u64, Fault> {
    let upload = guard.take().ok_or_else(|| unknown(id))?;
    let (upload, received) = match check_place(&asked, upload.size()) {
        Ok(()) => receive(upload, &mut asked.body).await,
        Err(error) => (Some(upload), Err(error)),
    };
    let size = upload.as_ref().map(Upload::size);
    if upload.is_none() {
        site.uploads.forget(id);
    }
    *guard = upload;
    received?;
    size.ok_or_else(|| unknown(id))
}

/// `PUT …/ID?digest=…`: adds the last piece, if there is one, and keeps the blob. Bytes that are
/// not what was announced are gone with their upload.
pub(super) async fn put(
    site: &Arc<Site>,
    asked: Asked,
    name: &str,
    id: &str,
) -> Result<Response<Body>, Fault> {
    let digest = asked.parameter("digest").map(digest_of).transpose()?;
    let digest = digest.ok_or_else(|| fault("DIGEST_INVALID", "`?digest=` is missing"))?;
    let guard = site.uploads.take(&asked, name, id)?;
    let (its, owned) = (Arc::clone(site), id.to_owned());
    // As with a piece: what has arrived is not lost with the client.
    let ending = tokio::spawn(async move { end(&its, asked, guard, &owned, digest).await });
    let kept = ending.await.map_err(|_| Fault::Internal("the server stops".to_owned()))??;
    Ok(created(name, &kept.digest))
}

async fn end(
    site: &Arc<Site>,
    mut asked: Asked,
    mut guard: OwnedMutexGuard<Option<Upload>>,
    id: &str,
    digest: Digest,
) -> Result<Kept, Fault> {
    let upload = guard.take().ok_or_else(|| unknown(id))?;
    if let Err(error) = check_place(&asked, upload.size()) {
        *guard = Some(upload);
        return Err(error);
    }
    let (upload, received) = receive(upload, &mut asked.body).await;
    if let (Some(_), Err(error)) = (&upload, received) {
        *guard = upload;
        return Err(error);
    }
    drop(guard);
    site.uploads.forget(id);
    keep(site, upload, digest).await
}

/// `GET …/ID`: how much has arrived.
pub(super) async fn status(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
    id: &str,
) -> Result<Response<Body>, Fault> {
    let guard = site.uploads.take(asked, name, id)?;
    let size = guard.as_ref().map(Upload::size).ok_or_else(|| unknown(id))?;
    Ok(progress(StatusCode::NO_CONTENT, name, id, size))
}

/// `DELETE …/ID`: gives it up.
pub(super) fn cancel(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
    id: &str,
) -> Result<Response<Body>, Fault> {
    drop(site.uploads.take(asked, name, id)?);
    site.uploads.forget(id);
    Ok(plain(StatusCode::NO_CONTENT))
}

async fn keep(site: &Arc<Site>, upload: Option<Upload>, digest: Digest) -> Result<Kept, Fault> {
    let upload = upload.ok_or_else(|| Fault::Internal("the upload is lost".to_owned()))?;
    let depot = Arc::clone(&site.depot);
    blocking(move || depot.keep(upload, Some(&digest))).await
}

/// `Content-Range: 0-99`, without unit: a piece must begin where the last one has ended.
fn check_place(asked: &Asked, size: u64) -> Result<(), Fault> {
    let Some(text) = asked.header(CONTENT_RANGE) else { return Ok(()) };
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or(text);
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = text.split_once('-').and_then(|(from, to)| Some((number(from)?, number(to)?)));
    let (from, to) = range.ok_or(Fault::Range)?;
    let fits = asked
        .length()
        .is_none_or(|length| to.checked_sub(from).and_then(|n| n.checked_add(1)) == Some(length));
    if from == size && fits { Ok(()) } else { Err(Fault::Range) }
}

fn progress(status: StatusCode, name: &str, id: &str, size: u64) -> Response<Body> {
    let mut response = plain(status);
    set(&mut response, LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"));
    set(&mut response, RANGE, &format!("0-{}", size.saturating_sub(1)));
    set(&mut response, "docker-upload-uuid", id);
    if status != StatusCode::NO_CONTENT {
        set(&mut response, CONTENT_LENGTH, "0");
    }
    response
}

fn created(name: &str, digest: &Digest) -> Response<Body> {
    let mut response = plain(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut response, "docker-content-digest", &digest.to_string());
    set(&mut response, CONTENT_LENGTH, "0");
    response
}
