//! What an `Authorization` header says, for what is fetched and is no registry.

use crate::base64;
use crate::settings::Secret;

/// A token as OAuth 2 has it (RFC 6750).
pub fn bearer(token: &str) -> Secret {
    Secret::new(format!("Bearer {}", token.trim()))
}

/// A token as git servers take it: the password of a user whose name does not matter.
pub fn git_token(token: &str) -> Secret {
    let pair = format!("x-access-token:{}", token.trim());
    Secret::new(format!("basic {}", base64::encode(pair.as_bytes())))
}

/// A header's value that is written out.
pub fn verbatim(value: &str) -> Secret {
    Secret::new(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_buildkits() {
        assert_eq!(bearer("abc\n").reveal(), "Bearer abc");
        assert_eq!(git_token("abc").reveal(), "basic eC1hY2Nlc3MtdG9rZW46YWJj");
        assert_eq!(verbatim(" Basic x\n").reveal(), "Basic x");
    }
}
