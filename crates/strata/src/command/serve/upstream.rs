//! The way to the registries whose images pass through (`[[serve.mirror]]`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use strata_oci::Registry;
use strata_remote::{RegistrySettings, RemoteRegistry, Retries, Timeouts};

use crate::failure::Failure;
use crate::settings::Settings;
use crate::words::lower_errors;

/// A client for all of them; none where there are none.
pub(super) fn open(settings: &Settings) -> Result<Option<Arc<dyn Registry>>, Failure> {
    if settings.serve.mirror.is_empty() {
        return Ok(None);
    }
    let with_login = settings.serve.mirror.iter().filter(|mirror| mirror.login);
    let with_login: BTreeSet<String> = with_login.map(|mirror| mirror.registry.clone()).collect();
    let credentials = Arc::clone(&settings.registry.credentials);
    let own = &settings.registry;
    let settings = RegistrySettings {
        // Who may read from this server is not, by that alone, who may read what we may.
        credentials: Arc::new(move |host| {
            with_login.contains(host).then(|| credentials(host)).flatten()
        }),
        // A build's mirror may be this server itself.
        mirrors: Default::default(),
        // Somebody waits, and there may be something older to give.
        timeouts: Timeouts { connect: Duration::from_secs(5), idle: Duration::from_secs(30) },
        retries: Retries {
            count: 2,
            longest_pause: Duration::from_secs(2),
            in_all: Duration::from_secs(10),
            ..own.retries
        },
        ..own.clone()
    };
    let registry = RemoteRegistry::new(settings);
    let registry = registry.map_err(|error| Failure::usage(lower_errors::chain(&error)))?;
    Ok(Some(Arc::new(registry)))
}
