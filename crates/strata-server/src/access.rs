//! Who asks, and what they may do.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, ORIGIN};
use subtle::ConstantTimeEq as _;

use crate::config::{Anonymous, Secret};
use crate::fault::Fault;

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    /// Whether the name is a token's.
    pub(crate) is_token: bool,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) trust: u8,
    /// Where they read, in this order; they write to the first.
    pub(crate) namespaces: Vec<String>,
}

impl Caller {
    pub(crate) fn may_read(&self) -> Result<(), Fault> {
        if self.reads { Ok(()) } else { Err(Fault::Unauthorized) }
    }

    pub(crate) fn may_write(&self) -> Result<(), Fault> {
        match (self.writes, self.reads) {
            (true, _) => Ok(()),
            (false, true) => {
                Err(Fault::Denied(format!("`{}` may read and not write here", self.name)))
            }
            (false, false) => Err(Fault::Unauthorized),
        }
    }

    /// The namespace that they write to.
    pub(crate) fn namespace(&self) -> &str {
        self.namespaces.first().map_or("main", String::as_str)
    }
}

/// A token of the configuration.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    pub(crate) writes: bool,
    pub(crate) namespace: String,
    pub(crate) reads: Vec<String>,
    pub(crate) trust: u8,
}

impl Token {
    fn caller(&self) -> Caller {
        let mut namespaces = vec![self.namespace.clone()];
        namespaces.extend(self.reads.iter().filter(|name| **name != self.namespace).cloned());
        Caller {
            name: self.name.clone(),
            is_token: true,
            reads: true,
            writes: self.writes,
            trust: self.trust,
            namespaces,
        }
    }
}

/// Who may do what.
#[derive(Debug)]
pub(crate) struct Access {
    /// With whom each stands for.
    tokens: Vec<(Secret, Arc<Caller>)>,
    anonymous: Anonymous,
    nobody: Arc<Caller>,
}

impl Access {
    pub(crate) fn new(tokens: Vec<Token>, anonymous: Anonymous) -> Self {
        let nobody = Arc::new(Caller {
            name: "anonymous".to_owned(),
            is_token: false,
            reads: anonymous != Anonymous::None,
            writes: anonymous == Anonymous::Write,
            trust: 0,
            namespaces: vec!["main".to_owned()],
        });
        let known = |token: Token| (token.secret.clone(), Arc::new(token.caller()));
        Self { tokens: tokens.into_iter().map(known).collect(), anonymous, nobody }
    }

    /// Who asks without any of the headers that say who asks.
    pub(crate) fn nobody(&self) -> &Arc<Caller> {
        &self.nobody
    }

    /// Whether a header, by its name, is one of those.
    pub(crate) fn is_told_by(header: &str) -> bool {
        let all = ["x-api-key", AUTHORIZATION.as_str(), ORIGIN.as_str()];
        all.iter().any(|name| name.eq_ignore_ascii_case(header))
    }

    /// Who asks, by the request's headers.
    ///
    /// # Errors
    ///
    /// For a token that nobody has: it does not count as none.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
        let Some(secret) = secret_of(headers)? else { return self.anonymous(headers) };
        // All are compared, so that the time says nothing.
        let mut found = None;
        for (known, caller) in &self.tokens {
            if bool::from(known.reveal().as_bytes().ct_eq(secret.as_bytes())) {
                found = Some(caller);
            }
        }
        match found {
            Some(caller) => Ok(Arc::clone(caller)),
            // Some clients can not do without: where nobody needs a token, any will do.
            None if self.tokens.is_empty() => self.anonymous(headers),
            None => Err(Fault::Unauthorized),
        }
    }

    fn anonymous(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
        // A page in a browser on this machine is not this machine's user.
        if headers.contains_key(ORIGIN) && self.anonymous == Anonymous::Write {
            return Err(Fault::Denied("web pages may not use the cache".to_owned()));
        }
        Ok(Arc::clone(&self.nobody))
    }
}

/// `Authorization: Bearer SECRET`, `Basic` with the secret as password, or `x-api-key`.
fn secret_of(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().map(|key| Some(key.to_owned())).map_err(|_| Fault::Unauthorized);
    }
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Fault::Unauthorized)?;
    let (scheme, rest) = text.split_once(' ').ok_or(Fault::Unauthorized)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Fault::Unauthorized);
    }
    let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (_, password) =
        decoded.as_deref().and_then(|t| t.split_once(':')).ok_or(Fault::Unauthorized)?;
    Ok(Some(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(anonymous: Anonymous) -> Access {
        let token = |name: &str, secret: &str, writes| Token {
            name: name.to_owned(),
            secret: Secret::new(secret),
            writes,
            namespace: "main".to_owned(),
            reads: Vec::new(),
            trust: 100,
        };
        Access::new(
            vec![token("ci", "secret-of-ci", true), token("dev", "other", false)],
            anonymous,
        )
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            value.parse().expect("a header"),
        )])
    }

    #[test]
    fn tokens_in_all_their_forms() {
        let access = access(Anonymous::None);
        let basic = format!("Basic {}", STANDARD.encode("anyone:secret-of-ci"));
        for (name, value) in [
            ("authorization", "Bearer secret-of-ci"),
            ("authorization", "bearer  secret-of-ci"),
            ("authorization", &basic),
            ("x-api-key", "secret-of-ci"),
        ] {
            let caller = access.caller(&headers(name, value)).expect(value);
            assert_eq!((&*caller.name, caller.writes), ("ci", true), "{value}");
        }
        let dev = access.caller(&headers("x-api-key", "other")).expect("dev");
        assert!(dev.may_read().is_ok());
        assert!(matches!(dev.may_write(), Err(Fault::Denied(_))));
    }

    #[test]
    fn wrong_tokens_are_not_as_good_as_none() {
        let access = access(Anonymous::Read);
        assert!(access.caller(&HeaderMap::new()).expect("anonymous").may_read().is_ok());
        for value in ["Bearer wrong", "Bearer", "Basic !!", "Basic Og", "Digest x", "Bearer "] {
            let answer = access.caller(&headers("authorization", value));
            assert!(matches!(answer, Err(Fault::Unauthorized)), "{value}");
        }
    }

    #[test]
    fn web_pages_are_nobody_here() {
        let open = Access::new(Vec::new(), Anonymous::Write);
        assert!(open.caller(&HeaderMap::new()).expect("anonymous").may_write().is_ok());
        assert!(open.caller(&headers("x-api-key", "any")).expect("anonymous").writes);
        let page = open.caller(&headers("origin", "https://example.org"));
        assert!(matches!(page, Err(Fault::Denied(_))));
    }
}
