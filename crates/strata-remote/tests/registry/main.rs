//! Pulls from and pushes to registries and other caches that misbehave in every way, in this
//! process, on loopback. Real registries are not asked; a real S3 server is.

#[cfg(test)]
mod auth;
#[cfg(test)]
mod blobs;
#[cfg(test)]
mod bucket;
#[cfg(test)]
mod fake;
mod made;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod mirrors;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod pushes;
#[cfg(test)]
mod reapi;
#[cfg(test)]
mod reapi_fake;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod tls;
