//! Bearer challenges (RFC 6750, and the registry token specification) and forms: the texts that
//! the exchange of an identity token needs. No network here.

/// Where to get a token, as a 401 says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The token server's address.
    pub(crate) realm: String,
    /// The name by which it knows the registry.
    pub(crate) service: String,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; None when it asks for anything but a bearer token.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, String::new());
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = value,
                _ => {}
            }
            rest = after;
        }
        realm.map(|realm| Self { realm, service })
    }
}

/// The first `name=value` or `name="value"`, and what comes after it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.trim_start_matches([' ', ',', '\t']).split_once('=')?;
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name.trim(), rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, &quoted[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    None
}

/// Fields as `application/x-www-form-urlencoded`.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, value)| format!("{name}={}", escape(value)));
    fields.collect::<Vec<_>>().join("&")
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(realm, service)| Challenge {
                realm: realm.to_owned(),
                service: service.to_owned(),
            });
            assert_eq!(Challenge::parse(header), expected, "{header}");
        };
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
            Some(("https://auth.docker.io/token", "registry.docker.io")),
        );
        check(r#"bearer  service=x , realm="a\"b,c" ,scope="s""#, Some(("a\"b,c", "x")));
        check(r#"Bearer realm="x"#, None);
        check("Bearer", None);
        check("Bearer ====", None);
        check(r#"Basic realm="x""#, None);
        check("", None);
    }

    #[test]
    fn escapes_forms() {
        assert_eq!(form(&[("a", "b c&d="), ("é", "ü")]), "a=b%20c%26d%3D&é=%C3%BC");
    }
}
