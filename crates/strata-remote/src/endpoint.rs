//! Where a name leads: its mirrors and its registry, as hosts, schemes and repository paths. No
//! network here.

use std::net::IpAddr;

use strata_oci::{Reference, RegistryError};

use crate::settings::{Mirror, RegistrySettings};

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One registry or mirror, and a repository in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The name that the user knows it by, for messages and credentials.
    pub(crate) name: String,
    /// Host and port as they are connected to.
    pub(crate) host: String,
    /// What may be spoken, in the order to try.
    pub(crate) schemes: &'static [Scheme],
    /// The repository's path there.
    pub(crate) repository: String,
}

/// The places to ask for a name: the mirrors in their order, the registry itself at last.
pub(crate) fn route(
    settings: &RegistrySettings,
    reference: &Reference,
) -> Result<Vec<Endpoint>, RegistryError> {
    let mirrors = settings.mirrors.get(&reference.registry).map_or(&[][..], Vec::as_slice);
    let mirrors = mirrors.iter().map(|mirror| of_mirror(mirror, &reference.repository));
    mirrors.chain([of_registry(settings, reference)]).collect()
}

/// Whether all mirrors make sense, before one is needed.
pub(crate) fn check_mirrors(settings: &RegistrySettings) -> Result<(), RegistryError> {
    let mut mirrors = settings.mirrors.values().flatten();
    mirrors.try_for_each(|mirror| of_mirror(mirror, "check").map(|_| ()))
}

fn of_registry(
    settings: &RegistrySettings,
    reference: &Reference,
) -> Result<Endpoint, RegistryError> {
    let name = reference.registry.clone();
    let host = match name.as_str() {
        "docker.io" | "index.docker.io" => "registry-1.docker.io".to_owned(),
        _ => checked_host(&name)?,
    };
    let schemes: &[Scheme] = if is_loopback(&host) {
        &[Scheme::Http, Scheme::Https]
    } else if settings.insecure.contains(&name) {
        &[Scheme::Https, Scheme::Http]
    } else {
        &[Scheme::Https]
    };
    Ok(Endpoint { name, host, schemes, repository: reference.repository.clone() })
}

fn of_mirror(mirror: &Mirror, repository: &str) -> Result<Endpoint, RegistryError> {
    let (scheme, rest) = match mirror.endpoint.split_once("://") {
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(_) => return Err(invalid_host(&mirror.endpoint)),
        None => (None, mirror.endpoint.as_str()),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = checked_host(host)?;
    let schemes: &[Scheme] = match scheme {
        Some(Scheme::Http) => &[Scheme::Http],
        Some(Scheme::Https) => &[Scheme::Https],
        None if mirror.plain_http || is_loopback(&host) => &[Scheme::Http, Scheme::Https],
        None => &[Scheme::Https],
    };
    let path = path.trim_matches('/');
    let prefix = match path.strip_prefix("v2") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_matches('/'),
        _ => path,
    };
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !prefix.bytes().all(fine) || prefix.split('/').any(|part| part == "..") {
        return Err(invalid_host(&mirror.endpoint));
    }
    let repository = match prefix {
        "" => repository.to_owned(),
        prefix => format!("{prefix}/{repository}"),
    };
    let name = if host == "registry-1.docker.io" { "docker.io".to_owned() } else { host.clone() };
    Ok(Endpoint { name, host, schemes, repository })
}

fn invalid_host(text: &str) -> RegistryError {
    let reason = "this is not the address of a registry: `HOST[:PORT]` is expected".to_owned();
    RegistryError::Failed { registry: text.to_owned(), reason }
}

/// A host goes into a URL as it is, so nothing may be in it that means something there.
fn checked_host(host: &str) -> Result<String, RegistryError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fine) {
        return Err(invalid_host(host));
    }
    Ok(host.to_owned())
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(settings: &RegistrySettings, name: &str) -> Vec<String> {
        let reference: Reference = name.parse().expect(name);
        let endpoints = route(settings, &reference).expect(name);
        let show = |endpoint: &Endpoint| {
            let schemes: Vec<_> = endpoint.schemes.iter().map(|scheme| scheme.name()).collect();
            let (host, repository) = (&endpoint.host, &endpoint.repository);
            format!("{} {host} {repository}", schemes.join(","))
        };
        endpoints.iter().map(show).collect()
    }

    #[test]
    fn names_lead_to_hosts() {
        let mut settings = RegistrySettings::default();
        settings.insecure.insert("lan:5000".to_owned());
        let check = |name: &str, expected: &str| assert_eq!(ask(&settings, name), [expected]);
        check("node", "https registry-1.docker.io library/node");
        check("ghcr.io/a/b", "https ghcr.io a/b");
        check("localhost:5000/a", "http,https localhost:5000 a");
        check("127.0.0.9:5000/a", "http,https 127.0.0.9:5000 a");
        check("[::1]:5000/a", "http,https [::1]:5000 a");
        check("lan:5000/a", "https,http lan:5000 a");
    }

    #[test]
    fn mirrors_come_first() {
        let mirror = |endpoint: &str, plain_http| Mirror { endpoint: endpoint.into(), plain_http };
        let mirrors = vec![
            mirror("https://m.example/hub/", false),
            mirror("m.example:81", true),
            mirror("http://plain", false),
            mirror("proxy/v2/cache", false),
            mirror("proxy/v2x", false),
        ];
        let mut settings = RegistrySettings::default();
        settings.mirrors.insert("docker.io".to_owned(), mirrors);
        let expected = [
            "https m.example hub/library/node",
            "http,https m.example:81 library/node",
            "http plain library/node",
            "https proxy cache/library/node",
            "https proxy v2x/library/node",
            "https registry-1.docker.io library/node",
        ];
        assert_eq!(ask(&settings, "node"), expected);
        assert_eq!(ask(&settings, "ghcr.io/a").len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for endpoint in ["", "ftp://x", "a b", "user@host", "host/a?b", "host/../x", "https://"] {
            let mirror = Mirror { endpoint: endpoint.to_owned(), plain_http: false };
            assert!(of_mirror(&mirror, "a").is_err(), "{endpoint}");
        }
    }
}
