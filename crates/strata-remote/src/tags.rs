//! The tags of a repository at one endpoint, page by page (distribution specification 1.1, "Listing
//! Tags").

use reqwest::header::{AUTHORIZATION, LINK};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::manifest::{read, refusal};
use crate::network;
use crate::wire::Wire;

/// So many are asked for at a time.
const PAGE: usize = 1000;
/// The largest page that is read.
const LARGEST_PAGE_BYTES: usize = 4 << 20;
/// A repository has no more than so many pages; a registry that goes in circles has.
const PAGES: usize = 100;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All of them, in the registry's order.
pub(crate) async fn all(wire: &Wire, endpoint: &Endpoint) -> Result<Vec<String>, Failure> {
    let base = wire.base(endpoint).await?;
    let first = format!("{base}/v2/{}/tags/list?n={PAGE}", endpoint.repository);
    let mut url = Url::parse(&first).map_err(|error| wrong(error.to_string()))?;
    let mut all = Vec::new();
    for _ in 0..PAGES {
        let mut request = wire.http.get(url.clone());
        if let Some(login) = wire.login(endpoint) {
            request = request.header(AUTHORIZATION, login);
        }
        let mut response = request.send().await.map_err(|error| network::failure(&error))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        let next = next(&response, &url);
        let bytes = read(&mut response, LARGEST_PAGE_BYTES).await?;
        let bytes = bytes.ok_or_else(|| wrong("a page of more than 4 MiB".to_owned()))?;
        let page: Page =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        all.extend(page.tags.unwrap_or_default());
        match next {
            Some(next) => url = next,
            None => return Ok(all),
        }
    }
    Err(wrong(format!("more than {PAGES} pages")))
}

/// The page after this one. It is at the same place: the login goes nowhere else.
fn next(response: &Response, url: &Url) -> Option<Url> {
    let links = response.headers().get_all(LINK).iter().filter_map(|link| link.to_str().ok());
    let next = links.filter(|link| link.contains("rel=\"next\"") || link.contains("rel=next"));
    let target = |link: &str| {
        let target = link.trim_start().strip_prefix('<')?.split_once('>')?.0;
        url.join(target).ok()
    };
    next.filter_map(target).find(|target| target.origin() == url.origin())
}

fn wrong(reason: String) -> Failure {
    Failure::Wrong { what: "the list of tags".to_owned(), reason }
}
