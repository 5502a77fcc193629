//! Manifests, tags, and who refers to whom.
//!
//! A tag is an entry that leads to a manifest's entry, which leads to all that the manifest
//! names. A tag that was pushed counts until the store's own image of that name is another one
//! than it was then: what happened last is what is pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, LOCATION};
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};
use strata_cas::BlobId;
use strata_cas::entry::{Entry, Need};
use strata_oci::{Digest, ManifestBytes, blobs, media_type};

use super::mirror;
use super::path::is_tag;
use super::{digest_of, fault, is_head, reference_of};
use crate::access::Caller;
use crate::body::{self, Body, blocking};
use crate::depot::{Content, Depot, Piece, Value, need_of, table_of};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::request::{Asked, plain, set, with_body};
use crate::site::Site;
use crate::tier::Tier;

/// The specification asks for at least 4 MiB.
const LIMIT_BYTES: usize = 4 << 20;
const PAGE: usize = 1000;

pub(super) fn space_of_manifests(name: &str) -> String {
    format!("oci-manifests/{name}")
}

pub(super) fn space_of_tags(name: &str) -> String {
    format!("oci-tags/{name}")
}

fn space_of_referrers(name: &str, digest: &Digest) -> String {
    format!("oci-referrers/{name}/{digest}")
}

const REPOSITORIES: &str = "oci-repositories";

/// `GET` and `HEAD /v2/NAME/manifests/REFERENCE`.
pub(super) async fn get(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
    reference: &str,
) -> Result<Response<Body>, Fault> {
    let found = look(site, &asked.caller, name, reference).await?;
    site.metrics.looked_up("oci", Kind::Manifest, found.is_some());
    let is_question = is_head(asked) && reference.contains(':');
    // It may be there. Whoever asks whether a manifest must come may send it.
    if found.is_none() && !is_question && site.depot.tier.as_ref().is_some_and(Tier::is_away) {
        return Err(Fault::Busy("the far tier does not answer".to_owned()));
    }
    let unknown = || fault("MANIFEST_UNKNOWN", format!("`{reference}` is not in `{name}`"));
    let (entry, bytes) = found.ok_or_else(unknown)?;
    let digest = Digest::of(&bytes);
    let kind = entry.attributes.get("media-type").map_or(media_type::MANIFEST, String::as_str);
    let length = bytes.len().to_string();
    let mut response =
        Response::new(if is_head(asked) { body::empty() } else { body::full(bytes) });
    set(&mut response, CONTENT_TYPE, kind);
    set(&mut response, CONTENT_LENGTH, &length);
    set(&mut response, "docker-content-digest", &digest.to_string());
    set(&mut response, ETAG, &format!("\"{digest}\""));
    Ok(response)
}

/// A manifest that is here or passes through. A name that is another registry's is looked for
/// there first; any other one, here.
async fn look(
    site: &Arc<Site>,
    caller: &Caller,
    name: &str,
    reference: &str,
) -> Result<Option<(Entry, Bytes)>, Fault> {
    let passing = site.mirrors.passing(name);
    let mut failed = None;
    if let Some(passing) = passing.as_ref().filter(|passing| passing.is_named) {
        match site.way().manifest(passing, reference).await {
            Ok(None) => {}
            Err(fault @ Fault::Upstream(_)) => failed = Some(fault),
            answer => return answer,
        }
    }
    let depot = Arc::clone(&site.depot);
    let (caller, owned) = (caller.clone(), (name.to_owned(), reference.to_owned()));
    let found = blocking(move || {
        let Some(entry) = find(&depot, &caller, &owned.0, &owned.1)? else { return Ok(None) };
        let content = Content::of_entry(&entry);
        let Some(bytes) = depot.read(&content)? else { return Ok(None) };
        Ok(Some((entry, bytes)))
    });
    match (found.await?, passing, failed) {
        (Some(found), ..) => Ok(Some(found)),
        (None, _, Some(failed)) => Err(failed),
        (None, Some(passing), None) if !passing.is_named => {
            site.way().manifest(&passing, reference).await
        }
        (None, ..) => Ok(None),
    }
}

/// A manifest by its digest, from this caller's namespaces alone.
pub(super) fn stored(
    depot: &Depot,
    caller: &Caller,
    name: &str,
    digest: &Digest,
) -> Result<Option<(Entry, Bytes)>, Fault> {
    let entry = depot.entry(caller, &space_of_manifests(name), &digest.to_string())?;
    let Some(entry) = entry else { return Ok(None) };
    let bytes = depot.read(&Content::of_entry(&entry))?;
    Ok(bytes.map(|bytes| (entry, bytes)))
}

/// Keeps a manifest that passes through. What it names comes when somebody asks for it.
pub(super) fn keep_passing(
    depot: &Depot,
    caller: &Caller,
    name: &str,
    manifest: &ManifestBytes,
) -> Result<Entry, Fault> {
    let kept = depot.keep_bytes(caller, &manifest.bytes)?;
    let attributes = BTreeMap::from([("media-type".to_owned(), manifest.media_type.clone())]);
    let value = Value { attributes, needs: vec![need_of(&kept.digest)], ..Value::default() };
    let (space, digest) = (space_of_manifests(name), kept.digest.to_string());
    mirror::enter(depot, (&space, &digest), (kept.id, kept.size), value)
}

/// What a manifest's entry would say, if it were kept.
pub(super) fn passing_entry(manifest: &ManifestBytes) -> Entry {
    let (body, size) = (BlobId::of(&manifest.bytes), manifest.bytes.len() as u64);
    let attributes = BTreeMap::from([("media-type".to_owned(), manifest.media_type.clone())]);
    Entry {
        body,
        size,
        attributes,
        needs: Vec::new(),
        stays: false,
        writer: String::new(),
        trust: 0,
        written: 0,
        used: 0,
        far: false,
    }
}

/// The entry of a manifest, by its digest or a tag.
fn find(
    depot: &Depot,
    caller: &Caller,
    name: &str,
    reference: &str,
) -> Result<Option<Entry>, Fault> {
    if reference.contains(':') {
        let digest = digest_of(reference)?;
        return depot.entry(caller, &space_of_manifests(name), &digest.to_string());
    }
    if !is_tag(reference) {
        return Err(fault("MANIFEST_INVALID", format!("`{reference}` is no tag")));
    }
    let pushed = depot.entry(caller, &space_of_tags(name), reference)?;
    let own = reference_of(name, reference);
    let version = match &own {
        Some(own) => depot.library.version(own)?,
        None => None,
    };
    match (pushed, version, own) {
        (Some(pushed), None, _) => Ok(Some(pushed)),
        (Some(pushed), Some(version), _) if pushed.attributes.get("over") == Some(&version) => {
            Ok(Some(pushed))
        }
        (_, Some(_), Some(own)) => {
            let Some(offer) = depot.library.offer(&own)? else { return Ok(None) };
            for manifest in offer.manifests.iter().chain([&offer.root]) {
                enter_offered(depot, caller, name, manifest)?;
            }
            let digest = offer.root.digest.to_string();
            depot.entry(caller, &space_of_manifests(name), &digest)
        }
        _ => Ok(None),
    }
}

/// Makes a manifest of the store's own images one that is found by its digest.
fn enter_offered(
    depot: &Depot,
    caller: &Caller,
    name: &str,
    manifest: &ManifestBytes,
) -> Result<(), Fault> {
    let (space, digest) = (space_of_manifests(name), manifest.digest.to_string());
    if depot.entry(caller, &space, &digest)?.is_some() {
        return Ok(());
    }
    let kept = depot.keep_own_bytes(&manifest.bytes)?;
    let attributes = BTreeMap::from([("media-type".to_owned(), manifest.media_type.clone())]);
    // It can be made again, so it is no reason to keep anything.
    let needs = vec![need_of(&kept.digest)];
    let value = Value { attributes, needs, is_local: true, ..Value::default() };
    // Whoever may read the image may have this noted: it says nothing that is not so.
    depot.set_entry(&store_itself(caller), (&space, &digest), (kept.id, kept.size), value)?;
    Ok(())
}

fn store_itself(caller: &Caller) -> Caller {
    // Trusted as nobody is: it is replaced by whoever pushes the same, or deletes it.
    Caller { name: "strata".to_owned(), trust: 0, writes: true, ..caller.clone() }
}

/// What a manifest says that a registry must know.
struct Read {
    media_type: String,
    /// Digest, and whether it must be here.
    needs: Vec<(Digest, bool)>,
    subject: Option<Digest>,
    /// As the list of referrers wants it.
    described: Json,
}

fn read(bytes: &[u8], digest: &Digest, content_type: Option<&str>) -> Result<Read, Fault> {
    let invalid = |text: String| fault("MANIFEST_INVALID", text);
    let document: Json =
        serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    if document["schemaVersion"].as_u64() != Some(2) {
        return Err(invalid("`schemaVersion` is not 2".to_owned()));
    }
    let stated = document["mediaType"].as_str();
    let media_type = match (stated, content_type) {
        (Some(stated), Some(header)) if stated != header => {
            return Err(invalid(format!("`mediaType` is `{stated}`, Content-Type `{header}`")));
        }
        (Some(kind), _) | (None, Some(kind)) => kind.to_owned(),
        (None, None) if document["manifests"].is_array() => media_type::INDEX.to_owned(),
        (None, None) => media_type::MANIFEST.to_owned(),
    };
    let mut needs = Vec::new();
    let config = [&document["config"]].into_iter().filter(|config| config.is_object());
    let layers = document["layers"].as_array().into_iter().flatten();
    for descriptor in config.chain(layers) {
        // A layer that is only elsewhere is not pushed.
        let is_here = descriptor["urls"].as_array().is_none_or(Vec::is_empty);
        needs.push((digest_in(descriptor)?, is_here));
    }
    // A cache's index lists layers, and some indexes list what is elsewhere.
    for child in document["manifests"].as_array().into_iter().flatten() {
        needs.push((digest_in(child)?, false));
    }
    let subject = &document["subject"];
    let subject = if subject.is_object() { Some(digest_in(subject)?) } else { None };
    let kind = document["artifactType"].as_str().or(document["config"]["mediaType"].as_str());
    let mut described = json!({
        "mediaType": media_type,
        "digest": digest.to_string(),
        "size": bytes.len(),
    });
    if let Some(kind) = kind {
        described["artifactType"] = json!(kind);
    }
    if document["annotations"].is_object() {
        described["annotations"] = document["annotations"].clone();
    }
    Ok(Read { media_type, needs, subject, described })
}

fn digest_in(descriptor: &Json) -> Result<Digest, Fault> {
    let text = descriptor["digest"].as_str();
    let text = text.ok_or_else(|| fault("MANIFEST_INVALID", "a descriptor has no `digest`"))?;
    digest_of(text).map_err(|error| fault("MANIFEST_INVALID", error))
}

/// `PUT /v2/NAME/manifests/REFERENCE`.
pub(super) async fn put(
    site: &Arc<Site>,
    mut asked: Asked,
    name: &str,
    reference: &str,
) -> Result<Response<Body>, Fault> {
    asked.caller.may_write()?;
    let bytes = body::collect(&mut asked.body, LIMIT_BYTES).await?;
    let digest = Digest::of(&bytes);
    let tag = match reference.contains(':') {
        true if digest_of(reference)? != digest => {
            let text = format!("the manifest is {digest}, and {reference} was announced");
            return Err(fault("DIGEST_INVALID", text));
        }
        true => None,
        false if is_tag(reference) => Some(reference.to_owned()),
        false => return Err(fault("MANIFEST_INVALID", format!("`{reference}` is no tag"))),
    };
    let content_type = asked.header(CONTENT_TYPE).map(|t| t.split(';').next().unwrap_or(t).trim());
    let read = read(&bytes, &digest, content_type)?;
    let subject = read.subject;
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let owned = name.to_owned();
    blocking(move || enter(&depot, &caller, &owned, tag.as_deref(), &bytes, read)).await?;
    let mut response = plain(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{name}/manifests/{digest}"));
    set(&mut response, "docker-content-digest", &digest.to_string());
    if let Some(subject) = subject {
        set(&mut response, "oci-subject", &subject.to_string());
    }
    set(&mut response, CONTENT_LENGTH, "0");
    Ok(response)
}

fn enter(
    depot: &Depot,
    caller: &Caller,
    name: &str,
    tag: Option<&str>,
    bytes: &Bytes,
    read: Read,
) -> Result<(), Fault> {
    let kept = depot.keep_bytes(caller, bytes)?;
    let digest = kept.digest.to_string();
    let (mut needs, mut layers) = (vec![need_of(&kept.digest)], Vec::new());
    for (needed, must_be_here) in &read.needs {
        match depot.find(needed)? {
            Some(content) if lies_in_pieces(depot, needed, &content)? => {
                needs.extend(content.pieces.iter().map(Piece::need));
                layers.push(*needed);
            }
            Some(_) => needs.push(need_of(needed)),
            None if *must_be_here => {
                return Err(fault("MANIFEST_BLOB_UNKNOWN", format!("{needed} is not here")));
            }
            None => {}
        }
    }
    let space = space_of_manifests(name);
    // Children that were pushed as manifests stay with their index.
    for (child, _) in &read.needs {
        let (table, name) = (table_of(caller.namespace(), &space), child.to_string());
        if depot.has_entry(&table, &name)? {
            needs.push(Need::Name { table, name });
        }
    }
    let attributes = BTreeMap::from([("media-type".to_owned(), read.media_type.clone())]);
    let attributes_of_tag = attributes.clone();
    let value = Value { attributes, needs, stays: true, layers, ..Value::default() };
    depot.set_entry(caller, (&space, &digest), (kept.id, kept.size), value)?;
    let of_manifest =
        || vec![Need::Name { table: table_of(caller.namespace(), &space), name: digest.clone() }];
    if let Some(subject) = &read.subject {
        let described = depot.keep_bytes(caller, read.described.to_string().as_bytes())?;
        let value = Value { needs: of_manifest(), stays: true, ..Value::default() };
        let space = space_of_referrers(name, subject);
        let body = (described.id, described.size);
        depot.set_entry(caller, (&space, &digest), body, value)?;
    }
    if let Some(tag) = tag {
        let mut attributes = attributes_of_tag;
        attributes.insert("digest".to_owned(), digest.clone());
        if let Some(own) = reference_of(name, tag)
            && let Some(version) = depot.library.version(&own)?
        {
            attributes.insert("over".to_owned(), version);
        }
        let value = Value { attributes, needs: of_manifest(), stays: true, ..Value::default() };
        depot.set_entry(caller, (&space_of_tags(name), tag), (kept.id, kept.size), value)?;
    }
    if depot.entry(caller, REPOSITORIES, name)?.is_none() {
        let nothing = depot.keep_bytes(caller, b"")?;
        let value = Value { stays: true, ..Value::default() };
        depot.set_entry(caller, (REPOSITORIES, name), (nothing.id, 0), value)?;
    }
    Ok(())
}

/// Whether a blob is the store's own layer, which is kept in the pieces that it is made of.
fn lies_in_pieces(depot: &Depot, digest: &Digest, content: &Content) -> Result<bool, Fault> {
    Ok(match &content.pieces[..] {
        [Piece::Sha256(_)] => false,
        [Piece::Id(_)] => depot.store.name(blobs::TABLE, &digest.to_string())?.is_none(),
        _ => true,
    })
}

/// `DELETE /v2/NAME/manifests/REFERENCE`: a tag, or a manifest with all its tags.
pub(super) async fn delete(
    site: &Arc<Site>,
    asked: Asked,
    name: &str,
    reference: &str,
) -> Result<Response<Body>, Fault> {
    asked.caller.may_write()?;
    let depot = Arc::clone(&site.depot);
    let (name, reference) = (name.to_owned(), reference.to_owned());
    let unknown = fault("MANIFEST_UNKNOWN", format!("`{reference}` is not in `{name}`"));
    let was_there = blocking(move || {
        let caller = &asked.caller;
        if !reference.contains(':') {
            return depot.remove_entry(caller, &space_of_tags(&name), &reference);
        }
        let digest = digest_of(&reference)?;
        remove(&depot, caller, &name, &digest)
    });
    if was_there.await? { Ok(plain(StatusCode::ACCEPTED)) } else { Err(unknown) }
}

fn remove(depot: &Depot, caller: &Caller, name: &str, digest: &Digest) -> Result<bool, Fault> {
    let (space, text) = (space_of_manifests(name), digest.to_string());
    let Some(entry) = depot.entry(caller, &space, &text)? else { return Ok(false) };
    for (tag, entry) in depot.entries(caller, &space_of_tags(name))? {
        if entry.attributes.get("digest") == Some(&text) {
            depot.remove_entry(caller, &space_of_tags(name), &tag)?;
        }
    }
    let content = Content::of_entry(&entry);
    let subject = depot.read(&content)?.and_then(|bytes| read(&bytes, digest, None).ok()?.subject);
    if let Some(subject) = subject {
        depot.remove_entry(caller, &space_of_referrers(name, &subject), &text)?;
    }
    depot.remove_entry(caller, &space, &text)
}

/// `GET /v2/NAME/tags/list`.
pub(super) async fn tags(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
) -> Result<Response<Body>, Fault> {
    let (depot, caller, owned) = (Arc::clone(&site.depot), asked.caller.clone(), name.to_owned());
    let all = blocking(move || {
        let pushed = depot.entries(&caller, &space_of_tags(&owned))?;
        let mut all: BTreeSet<String> = pushed.into_keys().collect();
        let wanted = reference_of(&owned, "x");
        for own in depot.library.names()? {
            let is_wanted = |w: &strata_oci::Reference| {
                (&w.registry, &w.repository) == (&own.registry, &own.repository)
            };
            if wanted.as_ref().is_some_and(is_wanted) {
                all.extend(own.tag);
            }
        }
        let is_known = !all.is_empty() || depot.entry(&caller, REPOSITORIES, &owned)?.is_some();
        Ok(is_known.then_some(all))
    });
    let own = all.await?;
    let theirs = match site.mirrors.passing(name) {
        Some(passing) => match site.way().tags(&passing).await {
            Err(Fault::Upstream(_)) if own.is_some() => None,
            answer => answer?,
        },
        None => None,
    };
    if own.is_none() && theirs.is_none() {
        return Err(Fault::NotFound);
    }
    let all = own.into_iter().flatten().chain(theirs.into_iter().flatten()).collect();
    let (page, next) = paged(asked, all)?;
    let body = json!({ "name": name, "tags": page });
    Ok(linked(body, next.map(|last| format!("/v2/{name}/tags/list?{last}"))))
}

/// `GET /v2/_catalog`.
pub(super) async fn catalog(site: &Arc<Site>, asked: &Asked) -> Result<Response<Body>, Fault> {
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let all = blocking(move || {
        let mut all: BTreeSet<String> = depot.entries(&caller, REPOSITORIES)?.into_keys().collect();
        for own in depot.library.names()? {
            let familiar = strata_oci::Reference { tag: None, digest: None, ..own }.familiar();
            all.insert(familiar);
        }
        Ok(all)
    });
    let (page, next) = paged(asked, all.await?)?;
    Ok(linked(json!({ "repositories": page }), next.map(|last| format!("/v2/_catalog?{last}"))))
}

/// What of a list is wanted (`n`, `last`), and how the next page is asked for.
fn paged(asked: &Asked, all: BTreeSet<String>) -> Result<(Vec<String>, Option<String>), Fault> {
    let count = match asked.parameter("n") {
        Some(text) => text.parse::<usize>().map_err(|_| Fault::invalid("`n` is a number"))?,
        None => PAGE,
    };
    let last = asked.parameter("last").unwrap_or_default();
    let mut page: Vec<String> = all.into_iter().filter(|one| &**one > last).collect();
    let has_more = page.len() > count;
    page.truncate(count);
    let next = page.last().filter(|_| has_more).map(|last| format!("n={count}&last={last}"));
    Ok((page, next))
}

fn linked(body: Json, next: Option<String>) -> Response<Body> {
    let mut response = with_body(StatusCode::OK, super::JSON, body.to_string());
    if let Some(next) = next {
        set(&mut response, LINK, &format!("<{next}>; rel=\"next\""));
    }
    response
}

/// `GET /v2/NAME/referrers/DIGEST`: an index of what names that manifest as its subject.
pub(super) async fn referrers(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
    digest: &str,
) -> Result<Response<Body>, Fault> {
    let digest = digest_of(digest)?;
    let (depot, caller, name) = (Arc::clone(&site.depot), asked.caller.clone(), name.to_owned());
    let kind = asked.parameter("artifactType").map(str::to_owned);
    let filter = kind.clone();
    let found = blocking(move || {
        let mut found = Vec::new();
        for entry in depot.entries(&caller, &space_of_referrers(&name, &digest))?.into_values() {
            let content = Content::of_entry(&entry);
            let Some(bytes) = depot.read(&content)? else { continue };
            let Ok(described) = serde_json::from_slice::<Json>(&bytes) else { continue };
            let is_wanted = |kind: &String| described["artifactType"].as_str() == Some(kind);
            if filter.as_ref().is_none_or(is_wanted) {
                found.push(described);
            }
        }
        Ok(found)
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": found.await?,
    });
    let mut response = with_body(StatusCode::OK, media_type::INDEX, index.to_string());
    if kind.is_some() {
        set(&mut response, "oci-filters-applied", "artifactType");
    }
    Ok(response)
}
