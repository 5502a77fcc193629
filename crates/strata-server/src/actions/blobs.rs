//! The addresses: block blobs as Azure has them (`Put Blob`, `Put Block`, `Put Block List`, `Get
//! Blob` with ranges), as far as the clients of the cache use them.

use std::sync::Arc;
use std::time::Instant;

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{Method, Response, StatusCode};

use super::entries::Found;
use super::{Actions, BLOCKS, Piece};
use crate::access::Caller;
use crate::body::{self, Body, blocking};
use crate::depot::{Content, Piece as Part};
use crate::fault::Fault;
use crate::request::{Asked, plain, range_of, set};
use crate::site::Site;
use crate::values;

const LIST_LIMIT_BYTES: usize = 8 << 20;

fn gone() -> Fault {
    Fault::NotFound
}

/// Takes bytes in: all of a blob, a block of it, or the list of its blocks.
pub(super) async fn put(
    site: &Arc<Site>,
    actions: &Actions,
    mut asked: Asked,
) -> Result<Response<Body>, Fault> {
    let id = &*asked.parameter("id").unwrap_or_default().to_owned();
    if !actions.uploads().contains_key(id) {
        return Err(gone());
    }
    match asked.parameter("comp") {
        Some("block") => {
            let block = asked.parameter("blockid").unwrap_or_default().to_owned();
            if block.is_empty() || block.len() > 128 {
                return Err(Fault::invalid("`blockid` has 1 to 128 characters"));
            }
            let piece = receive(site, actions, &mut asked, id).await?;
            let mut uploads = actions.uploads();
            let upload = uploads.get_mut(id).ok_or_else(gone)?;
            if upload.blocks.len() >= BLOCKS {
                return Err(Fault::invalid("a blob has 50000 blocks at most"));
            }
            upload.blocks.insert(block, piece);
        }
        Some("blocklist") => {
            let bytes = body::collect(&mut asked.body, LIST_LIMIT_BYTES).await?;
            let list = std::str::from_utf8(&bytes).ok().and_then(blocks_of);
            let list = list.ok_or_else(|| Fault::invalid("this is no list of blocks"))?;
            let mut uploads = actions.uploads();
            let upload = uploads.get_mut(id).ok_or_else(gone)?;
            let find = |block: &String| upload.blocks.get(block).copied();
            let whole: Option<Vec<Piece>> = list.iter().map(find).collect();
            upload.whole = Some(whole.ok_or_else(|| Fault::invalid("a block has not come"))?);
            upload.touched = Instant::now();
        }
        Some(_) => return Err(Fault::Method),
        None => {
            let piece = receive(site, actions, &mut asked, id).await?;
            let mut uploads = actions.uploads();
            uploads.get_mut(id).ok_or_else(gone)?.whole = Some(vec![piece]);
        }
    }
    let mut response = plain(StatusCode::CREATED);
    set(&mut response, CONTENT_LENGTH, "0");
    set(&mut response, ETAG, "\"strata\"");
    set(&mut response, "x-ms-request-id", "strata");
    set(&mut response, "x-ms-request-server-encrypted", "false");
    Ok(response)
}

/// Keeps a request's body. What an upload has brought so far, all blocks together, counts for the
/// limit of a body.
async fn receive(
    site: &Arc<Site>,
    actions: &Actions,
    asked: &mut Asked,
    id: &str,
) -> Result<Piece, Fault> {
    let limit = site.depot.body_limit_bytes;
    let (came, caller) = {
        let mut uploads = actions.uploads();
        let upload = uploads.get_mut(id).ok_or_else(gone)?;
        upload.touched = Instant::now();
        (upload.came, upload.caller.clone())
    };
    let (left, length) = (limit.saturating_sub(came), asked.length());
    asked.check_length(left)?;
    let depot = Arc::clone(&site.depot);
    let upload = blocking(move || depot.begin_bare(&caller, left, length)).await?;
    let (upload, received) = body::receive(upload, &mut asked.body).await;
    received?;
    let upload = upload.ok_or_else(|| Fault::Internal("the upload is lost".to_owned()))?;
    if asked.length().is_some_and(|length| length != upload.size()) {
        return Err(Fault::Mismatch("the body is shorter than it was said to be".to_owned()));
    }
    let depot = Arc::clone(&site.depot);
    let piece = blocking(move || {
        let (id, size) = depot.keep_bare(upload)?;
        // Nothing leads to it yet: it stays for as long as the store's lease says.
        depot.store.has(&id)?;
        Ok(Piece { id, size })
    });
    let piece = piece.await?;
    let mut uploads = actions.uploads();
    let upload = uploads.get_mut(id).ok_or_else(gone)?;
    upload.came = upload.came.saturating_add(piece.size);
    upload.touched = Instant::now();
    Ok(piece)
}

/// The ids in a list of blocks: `<BlockList><Latest>ID</Latest>…</BlockList>`.
fn blocks_of(xml: &str) -> Option<Vec<String>> {
    let (_, rest) = xml.split_once("<BlockList>").or_else(|| xml.split_once("<BlockList "))?;
    let (list, _) = rest.split_once("</BlockList>")?;
    let mut blocks = Vec::new();
    for kind in list.split('<').skip(1) {
        let (tag, text) = kind.split_once('>')?;
        match tag {
            "Latest" | "Uncommitted" | "Committed" => blocks.push(text.trim().to_owned()),
            _ if tag.starts_with('/') => {}
            _ => return None,
        }
    }
    (blocks.len() <= BLOCKS).then_some(blocks)
}

/// Gives an entry's bytes, or a range of them. Only the pieces that a range is in are read.
pub(super) async fn get(
    site: &Arc<Site>,
    actions: &Actions,
    asked: Asked,
    what: &str,
) -> Result<Response<Body>, Fault> {
    if !values::reads(&asked.method) {
        return Err(Fault::Method);
    }
    let denied = || Fault::Denied("this address is none, or none any more".to_owned());
    let found = Found::of(actions, &asked, what).ok_or_else(denied)?;
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let pieces = blocking(move || found.pieces(&depot, &caller)).await?;
    let size: u64 = pieces.iter().map(|piece| piece.size).sum();
    let wanted = asked.header("x-ms-range").or(asked.header(RANGE));
    let range = match wanted.filter(|_| asked.method == Method::GET) {
        Some(text) => range_of(text, size)?,
        None => None,
    };
    let (start, end) = range.unwrap_or((0, size));
    let body = match asked.method == Method::HEAD {
        true => body::empty(),
        false => {
            let (content, skipped) = within(&pieces, (start, end));
            body::send(&site.depot, &content, (start - skipped, end - skipped)).await?
        }
    };
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, "application/octet-stream");
    set(&mut response, CONTENT_LENGTH, &(end - start).to_string());
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, "x-ms-blob-type", "BlockBlob");
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

/// The pieces that a range is in, and how many bytes lie before them.
fn within(pieces: &[Piece], (start, end): (u64, u64)) -> (Content, u64) {
    let (mut at, mut skipped) = (0, 0);
    let mut content = Content::default();
    for piece in pieces {
        let after = at + piece.size;
        if after <= start {
            skipped = after;
        } else if at < end {
            content.pieces.push(Part::Id(piece.id));
            content.size += piece.size;
        }
        at = after;
    }
    (content, skipped)
}

/// Who comes with an address: it says itself what may be done.
pub(crate) fn bearer() -> Caller {
    Caller {
        name: "address".to_owned(),
        is_token: false,
        reads: true,
        writes: false,
        trust: 0,
        namespaces: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_cas::BlobId;

    #[test]
    fn lists_of_blocks() {
        let check = |xml: &str, expected: Option<&[&str]>| {
            let found = blocks_of(xml);
            let found = found.as_ref().map(|all| all.iter().map(String::as_str).collect());
            assert_eq!(found, expected.map(<[&str]>::to_vec), "{xml}");
        };
        let head = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
        let two = "<BlockList><Latest>YQ==</Latest>\n<Uncommitted>Yg==</Uncommitted></BlockList>";
        check(&format!("{head}{two}"), Some(&["YQ==", "Yg=="]));
        check("<BlockList></BlockList>", Some(&[]));
        check("<BlockList><Other>x</Other></BlockList>", None);
        check("<BlockList><Latest>x", None);
        check("", None);
    }

    #[test]
    fn only_pieces_that_a_range_is_in_are_read() {
        let piece = |text: &str| Piece { id: BlobId::of(text.as_bytes()), size: 10 };
        let all = [piece("a"), piece("b"), piece("c")];
        let check = |range, expected: &[usize], skipped| {
            let ids: Vec<Part> = expected.iter().map(|at| Part::Id(all[*at].id)).collect();
            let (content, found) = within(&all, range);
            assert_eq!((content.pieces, found), (ids, skipped), "{range:?}");
            assert_eq!(content.size, 10 * expected.len() as u64);
        };
        check((0, 30), &[0, 1, 2], 0);
        check((0, 10), &[0], 0);
        check((9, 11), &[0, 1], 0);
        check((10, 20), &[1], 10);
        check((25, 30), &[2], 20);
        check((0, 0), &[], 0);
    }
}
