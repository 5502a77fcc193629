//! Reads the network's errors: which of them pass, and what they mean in one sentence.

use std::error::Error;
use std::io;

use crate::failure::{Failure, printable};

/// What an error of the HTTP client means.
pub(crate) fn failure(error: &reqwest::Error) -> Failure {
    let reason = describe(error);
    if error.is_builder() || error.is_redirect() {
        return Failure::Failed(reason);
    }
    if error.is_connect() || error.is_dns() {
        let temporary = reason.contains("emporary");
        let distrusted = find::<rustls::Error>(error).is_some();
        return match distrusted || (error.is_dns() && !temporary) {
            true => Failure::Hopeless(reason),
            false => Failure::Unreachable(reason),
        };
    }
    if error.is_timeout() && !error.is_body() && !error.is_decode() {
        return Failure::Unreachable(reason);
    }
    Failure::Dropped(reason)
}

/// One sentence about an error: what is at the bottom of it.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return describe_tls(tls);
    }
    if let Some(request) = find::<reqwest::Error>(error) {
        if request.is_timeout() && request.is_connect() {
            return "no connection in time".to_owned();
        }
        if request.is_timeout() {
            return "no answer in time".to_owned();
        }
        if request.is_dns() {
            return format!("its name can not be resolved: {}", deepest(error));
        }
    }
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    match kinds.map(io::Error::kind).find(|kind| *kind != io::ErrorKind::Other) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection is refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable) => "there is no route to the host".to_owned(),
        Some(io::ErrorKind::NetworkUnreachable) => "the network is unreachable".to_owned(),
        _ => match deepest(error).as_str() {
            "tls handshake eof" => "it does not speak TLS".to_owned(),
            other => other.to_owned(),
        },
    }
}

fn describe_tls(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error as Tls};
    match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by an authority that this system does not trust".to_owned()
        }
        Tls::InvalidCertificate(CertificateError::NotValidForName) => {
            "its certificate is for another name".to_owned()
        }
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        Tls::InvalidCertificate(_) => format!("its certificate is no good: {error}"),
        Tls::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => format!("TLS fails: {other}"),
    }
}

/// The causes of an error, outermost first. An `io::Error` hides the error that it carries from
/// `source`, so that is asked for.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(carrier) => match carrier.get_ref() {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => carrier.source(),
        },
        None => error.source(),
    })
    .take(32)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref::<T>())
}

fn deepest(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(|cause| printable(&cause.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_to_their_bottom() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::other(tls));
        assert!(describe(&wrapped).contains("authority"), "{}", describe(&wrapped));
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(describe(&refused), "the connection was reset");
    }
}
