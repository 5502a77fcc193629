//! Why a request comes to nothing, before a protocol words it.

use std::time::Duration;

use http::StatusCode;
use strata_cas::StoreError;

use crate::library::LibraryError;

/// Why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no such thing here")]
    NotFound,
    #[error("a token is needed, and one that is known here")]
    Unauthorized,
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Invalid(String),
    /// The bytes are not those that were announced.
    #[error("{0}")]
    Mismatch(String),
    #[error("more than the {limit} bytes that are taken here")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    NoRoom(String),
    /// A namespace has all that it may have.
    #[error("{0}")]
    Quota(String),
    #[error("more than {limit} requests a second; come again in {} ms", wait.as_millis().max(1))]
    TooMany { wait: Duration, limit: u64 },
    #[error("{0}")]
    Conflict(String),
    #[error("this can not be done here")]
    Method,
    #[error("the range is not in what there is")]
    Range,
    /// The client went away, or was too slow.
    #[error("the request's body ended early: {0}")]
    Broken(String),
    #[error("{0}")]
    Busy(String),
    /// Another server, which this one asks, does not answer as hoped.
    #[error("{0}")]
    Upstream(String),
    #[error("{0}")]
    Internal(String),
}

impl Fault {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) | Self::Mismatch(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoRoom(_) | Self::Quota(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Broken(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One of the words of [`Self::refusal`].
    pub(crate) fn known_refusal(word: &str) -> Option<&'static str> {
        let all = ["unauthorized", "denied", "too_large", "no_room", "quota", "rate", "busy"];
        all.into_iter().find(|known| *known == word)
    }

    /// Why something is refused that another time, or somebody else, may do; for counting.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unauthorized => "unauthorized",
            Self::Denied(_) => "denied",
            Self::TooLarge { .. } => "too_large",
            Self::NoRoom(_) => "no_room",
            Self::Quota(_) => "quota",
            Self::TooMany { .. } => "rate",
            Self::Busy(_) => "busy",
            _ => return None,
        })
    }

    /// For how long a client is to wait, in whole seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany { wait, .. } => Some(wait.as_secs() + 1),
            _ => None,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoRoom { .. } => Self::NoRoom(error.to_string()),
            StoreError::Io { source, .. }
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::NoRoom("there is no room left on the disk".to_owned())
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<LibraryError> for Fault {
    fn from(error: LibraryError) -> Self {
        Self::Internal(error.to_string())
    }
}
