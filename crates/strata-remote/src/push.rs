//! Pushing: the order of the requests, on the caller's thread. A blob that is there is not sent; a
//! blob of a neighbouring repository is taken over; what broke off goes on where it broke off.

use std::io::{self, Write};
use std::sync::Arc;

use strata_oci::{
    BlobBytes, BlobMaking, Descriptor, Digest, DigestHasher, ManifestBytes, PushRegistry, Pushed,
    Reference, RegistryError,
};

use crate::endpoint::{self, Endpoint};
use crate::failure::Failure;
use crate::registry::{RemoteRegistry, WORTHWHILE_BYTES, broken};
use crate::retry::Patience;
use crate::settings::Credentials;
use crate::token::{self, Rights};
use crate::upload::{self, Begun, Upload};
use crate::wire::Wire;

/// Neighbouring repositories that are asked for a blob at most.
const MOST_MOUNTS: usize = 3;

impl RemoteRegistry {
    /// Whether a registry takes these credentials, as `docker login` finds out.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Denied`] when it does not; others when it can not be asked.
    pub fn check_login(
        &self,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<(), RegistryError> {
        let name = Reference {
            registry: registry.to_owned(),
            repository: "login".to_owned(),
            tag: None,
            digest: None,
        };
        let endpoint = self.origin(&name)?;
        let answer = Patience::new(self.settings().retries).insist(|| {
            let (endpoint, credentials) = (endpoint.clone(), credentials.clone());
            self.run(|wire| async move { token::check(&wire, &endpoint, &credentials).await })
        });
        answer.map_err(|failure| failure.into_error(registry, registry.to_owned(), &[]))
    }

    fn origin(&self, name: &Reference) -> Result<Endpoint, RegistryError> {
        let endpoint = endpoint::route(self.settings(), name)?.pop();
        endpoint.ok_or_else(|| Failure::NotFound.into_error(&name.registry, name.to_string(), &[]))
    }

    /// Runs one request behind the door.
    fn run<T, F>(&self, request: impl FnOnce(Arc<Wire>) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let far = self.far()?;
        far.door.run(request(Arc::clone(&far.wire))).unwrap_or_else(broken)
    }

    /// A request with the rights to push, and once more after a login if that is asked for.
    fn with_rights<T, F>(
        &self,
        endpoint: &Endpoint,
        rights: &Rights,
        request: impl Fn(Arc<Wire>, Endpoint) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let before = self.far()?.wire.push_login(endpoint, rights);
        match self.run(|wire| request(wire, endpoint.clone())) {
            Err(Failure::Unauthorised) => {}
            answer => return answer,
        }
        self.log_in(endpoint, rights, before.as_ref())?;
        match self.run(|wire| request(wire, endpoint.clone())) {
            Err(Failure::Unauthorised) => Err(Failure::Denied),
            answer => answer,
        }
    }

    /// Logs in, unless another thread did so since.
    fn log_in(
        &self,
        endpoint: &Endpoint,
        rights: &Rights,
        before: Option<&reqwest::header::HeaderValue>,
    ) -> Result<(), Failure> {
        let _one_at_a_time = self.logging_in();
        if self.far()?.wire.push_login(endpoint, rights).as_ref() != before {
            return Ok(());
        }
        let credentials = (self.settings().credentials)(&endpoint.name);
        let (endpoint, rights) = (endpoint.clone(), rights.clone());
        self.run(|wire| async move { token::log_in(&wire, &endpoint, &rights, credentials).await })
    }

    /// A request that is made until it succeeds or shall not be made again.
    fn patiently<T>(
        &self,
        endpoint: &Endpoint,
        what: &str,
        request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        let answer = Patience::new(self.settings().retries).insist(request);
        answer.map_err(|failure| failure.into_error(&endpoint.name, what.to_owned(), &[]))
    }

    /// Begins an upload, or has the blob taken over from another repository.
    fn begin_upload(
        &self,
        endpoint: &Endpoint,
        mount: Option<(&Digest, &str)>,
    ) -> Result<Begun, Failure> {
        let rights = match mount {
            Some((_, from)) => Rights::mount(endpoint, from),
            None => Rights::push(endpoint),
        };
        self.with_rights(endpoint, &rights, |wire, endpoint| {
            let mount = mount.map(|(digest, from)| (*digest, from.to_owned()));
            async move { upload::begin(&wire, &endpoint, mount).await }
        })
    }

    /// Ends an upload whose bytes are all there.
    fn finish_upload(
        &self,
        endpoint: &Endpoint,
        upload: &Upload,
        blob: Digest,
    ) -> Result<(), Failure> {
        self.with_rights(endpoint, &Rights::push(endpoint), |wire, endpoint| {
            let upload = upload.clone();
            async move { upload::finish(&wire, &endpoint, &upload, blob).await }
        })
    }

    fn abandon(&self, endpoint: &Endpoint, upload: Upload) {
        let endpoint = endpoint.clone();
        let abandoned = self.run(|wire| async move {
            upload::abandon(&wire, &endpoint, &upload).await;
            Ok(())
        });
        drop(abandoned);
    }

    /// Sends a blob while it is made, in an upload that has begun.
    fn send_made(
        &self,
        endpoint: &Endpoint,
        upload: &Upload,
        make: &mut BlobMaking<'_>,
    ) -> Result<(), Failure> {
        let far = self.far()?;
        let (wire, to, session) = (Arc::clone(&far.wire), endpoint.clone(), upload.clone());
        let mut digest = None;
        let (outcome, given) = far.door.feed(
            |pieces| upload::send_all(wire, to, session, pieces),
            |out| {
                digest = Some(make(out)?);
                Ok(())
            },
        );
        match (given, outcome.unwrap_or_else(broken)) {
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(upload::source_failure(&error))
            }
            (_, Err(failure)) => Err(failure),
            (Ok(()), Ok(upload)) => match digest {
                Some(digest) => self.finish_upload(endpoint, &upload, digest),
                None => broken(),
            },
            (Err(_), Ok(_)) => Err(Failure::Dropped("it has enough too early".to_owned())),
        }
    }
}

impl PushRegistry for RemoteRegistry {
    fn manifest_digest(&self, name: &Reference) -> Result<Option<Digest>, RegistryError> {
        let endpoint = self.origin(name)?;
        let (rights, target) = (Rights::push(&endpoint), name.target());
        self.patiently(&endpoint, &name.to_string(), || {
            self.with_rights(&endpoint, &rights, |wire, endpoint| {
                let target = target.clone();
                async move { upload::manifest_digest(&wire, &endpoint, &target).await }
            })
        })
    }

    fn push_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        near: &[Reference],
        bytes: &BlobBytes<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pushed, RegistryError> {
        let endpoint = self.origin(name)?;
        let what = format!("{}/{}@{}", name.registry, name.repository, blob.digest);
        let near = near
            .iter()
            .filter(|near| near.registry == name.registry && near.repository != name.repository);
        let near: Vec<String> =
            near.map(|near| near.repository.clone()).take(MOST_MOUNTS).collect();
        let mut push =
            Push { registry: self, endpoint: &endpoint, blob, bytes, upload: None, most: None };
        let mut patience = Patience::new(self.settings().retries);
        loop {
            let failure = match push.go_on(&near, progress) {
                Ok(pushed) => return Ok(pushed),
                Err((failure, sent)) => {
                    if sent >= WORTHWHILE_BYTES {
                        patience.renew();
                    }
                    failure
                }
            };
            let again = match failure {
                Failure::TooLarge if push.most.is_none() => {
                    push.most = Some(upload::smaller_requests());
                    Ok(())
                }
                Failure::Moved(to) => {
                    push.moved(&to);
                    patience.wait(Failure::Dropped("it redirects in circles".to_owned()))
                }
                failure => patience.wait(failure),
            };
            again.map_err(|failure| failure.into_error(&endpoint.name, what.clone(), &[]))?;
        }
    }

    fn push_made(&self, name: &Reference, make: &mut BlobMaking<'_>) -> Result<(), RegistryError> {
        let endpoint = self.origin(name)?;
        let what = format!("{}/{}", name.registry, name.repository);
        let begun = self.patiently(&endpoint, &what, || self.begin_upload(&endpoint, None))?;
        let Begun::Upload(upload) = begun else { return Ok(()) };
        self.send_made(&endpoint, &upload, make).map_err(|failure| {
            self.abandon(&endpoint, upload);
            failure.into_error(&endpoint.name, what, &[])
        })
    }

    fn push_manifest(
        &self,
        name: &Reference,
        manifest: &ManifestBytes,
    ) -> Result<(), RegistryError> {
        let endpoint = self.origin(name)?;
        let rights = Rights::push(&endpoint);
        let target = match &name.tag {
            Some(tag) => tag.clone(),
            None => manifest.digest.to_string(),
        };
        self.patiently(&endpoint, &name.to_string(), || {
            self.with_rights(&endpoint, &rights, |wire, endpoint| {
                let (target, manifest) = (target.clone(), manifest.clone());
                async move { upload::put_manifest(&wire, &endpoint, &target, manifest).await }
            })
        })
    }
}

/// One blob on its way, over all tries.
struct Push<'a> {
    registry: &'a RemoteRegistry,
    endpoint: &'a Endpoint,
    blob: &'a Descriptor,
    bytes: &'a BlobBytes<'a>,
    /// What an earlier try began.
    upload: Option<Upload>,
    /// Bytes of one request at most.
    most: Option<u64>,
}

impl Push<'_> {
    /// One try. A failure comes with the bytes that were sent before it.
    fn go_on(
        &mut self,
        near: &[String],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pushed, (Failure, u64)> {
        let none = |failure| (failure, 0);
        let begun = match self.upload.clone() {
            Some(upload) => self.resume(upload).map_err(none)?,
            None => None,
        };
        let upload = match begun {
            Some(upload) => upload,
            None => match self.begin(near).map_err(none)? {
                Ok(pushed) => return Ok(pushed),
                Err(upload) => upload,
            },
        };
        self.upload = Some(upload.clone());
        let upload = self.send(upload, progress)?;
        self.upload = Some(upload.clone());
        let finished = self.registry.finish_upload(self.endpoint, &upload, self.blob.digest);
        finished.map(|()| Pushed::Sent).map_err(none)
    }

    fn rights(&self) -> Rights {
        Rights::push(self.endpoint)
    }

    /// The next try goes where a redirect leads.
    fn moved(&mut self, to: &str) {
        self.upload = self.upload.take().and_then(|upload| upload.moved(to).ok());
    }

    /// How far an upload came; None when the registry knows nothing of it any more.
    fn resume(&self, upload: Upload) -> Result<Option<Upload>, Failure> {
        let asked = self.registry.with_rights(self.endpoint, &self.rights(), |wire, endpoint| {
            let upload = upload.clone();
            async move { upload::status(&wire, &endpoint, &upload).await }
        });
        match asked {
            Ok(upload) if upload.offset <= self.blob.size => Ok(Some(upload)),
            Ok(_) | Err(Failure::NotFound | Failure::Failed(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Finds out whether anything has to be sent, and where to.
    fn begin(&self, near: &[String]) -> Result<Result<Pushed, Upload>, Failure> {
        let (rights, blob) = (self.rights(), self.blob);
        let is_there = self.registry.with_rights(self.endpoint, &rights, |wire, endpoint| {
            let blob = blob.clone();
            async move { upload::has_blob(&wire, &endpoint, &blob).await }
        })?;
        if is_there {
            return Ok(Ok(Pushed::Present));
        }
        for from in near {
            let mount = Some((&blob.digest, from.as_str()));
            match self.registry.begin_upload(self.endpoint, mount) {
                Ok(Begun::Mounted) => return Ok(Ok(Pushed::Mounted)),
                // It does not have the blob there: this upload is as good as another.
                Ok(Begun::Upload(upload)) if from == &near[near.len() - 1] => {
                    return Ok(Err(upload));
                }
                Ok(Begun::Upload(upload)) => self.registry.abandon(self.endpoint, upload),
                // A neighbour that we may not read is no reason not to push.
                Err(Failure::Denied | Failure::NotFound | Failure::Failed(_)) => {}
                Err(other) => return Err(other),
            }
        }
        match self.registry.begin_upload(self.endpoint, None)? {
            Begun::Mounted => Ok(Ok(Pushed::Mounted)),
            Begun::Upload(upload) => Ok(Err(upload)),
        }
    }

    /// Sends what the registry does not have yet. All bytes are hashed, sent or not.
    fn send(
        &self,
        upload: Upload,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Upload, (Failure, u64)> {
        let far = self.registry.far().map_err(|failure| (failure, 0))?;
        let (size, most, start) = (self.blob.size, self.most, upload.offset);
        let (wire, endpoint) = (Arc::clone(&far.wire), self.endpoint.clone());
        let session = upload.clone();
        let mut counted = 0;
        let mut checked = false;
        let (outcome, given) = far.door.feed(
            |pieces| upload::send_bytes(wire, endpoint, session, size, most, pieces),
            |out| {
                let mut sending = Sending {
                    out,
                    skip: start,
                    size,
                    count: 0,
                    hasher: DigestHasher::default(),
                    progress,
                };
                let given = (self.bytes)(&mut sending);
                counted = sending.count;
                given?;
                let (count, hasher) = (sending.count, sending.hasher);
                if count != size || hasher.finish().0 != self.blob.digest {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "they are not what their digest says",
                    ));
                }
                checked = true;
                Ok(())
            },
        );
        let sent = counted.saturating_sub(start);
        let outcome = outcome.unwrap_or_else(broken);
        match (given, outcome) {
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.registry.abandon(self.endpoint, upload);
                Err((upload::source_failure(&error), sent))
            }
            (_, Err(Failure::Unauthorised)) => {
                // A token that ran out during the upload: the next try has another one.
                let rights = self.rights();
                let before = far.wire.push_login(self.endpoint, &rights);
                let logged_in = self.registry.log_in(self.endpoint, &rights, before.as_ref());
                logged_in.map_err(|failure| (failure, sent))?;
                Err((Failure::Dropped("it wants another login".to_owned()), sent))
            }
            (_, Err(failure)) => Err((failure, sent)),
            (Ok(()), Ok(upload)) if checked => Ok(upload),
            (_, Ok(_)) => Err((Failure::Dropped("it has enough too early".to_owned()), sent)),
        }
    }
}

/// Hashes and counts all bytes, and passes on what lies behind the first ones.
struct Sending<'a> {
    out: &'a mut dyn Write,
    skip: u64,
    size: u64,
    count: u64,
    hasher: DigestHasher,
    progress: &'a mut dyn FnMut(u64),
}

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.count + bytes.len() as u64;
        if end > self.size {
            let reason = "they are more than their description says";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.hasher.write_all(bytes)?;
        let skipped = self.skip.saturating_sub(self.count).min(bytes.len() as u64);
        self.out.write_all(&bytes[usize::try_from(skipped).unwrap_or(bytes.len())..])?;
        self.count = end;
        (self.progress)(self.count);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
