//! What lies behind a server's store, opened as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use strata_oci::RegistryError;
use strata_oci::far::Far;
use strata_remote::{ObjectCache, ReapiCache, ReapiSettings, S3Settings, Secret, Timeouts};
use strata_server::{FarKind, FarSetup, FarTable};

use super::word;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::{Label, Printer};

/// Who does not answer is left alone for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Opens it. That it does not answer is no reason not to serve.
pub(super) fn open(
    table: Option<&FarTable>,
    environment: &Environment,
) -> Result<Option<FarSetup>, Failure> {
    let Some(table) = table else { return Ok(None) };
    let failed = |error: RegistryError| Failure::environment(error.to_string());
    let far: Arc<dyn Far> = match table.kind {
        FarKind::S3 => Arc::new(ObjectCache::s3(&bucket(table, environment)?).map_err(failed)?),
        FarKind::Local => {
            let path = table.path.clone().unwrap_or_default();
            Arc::new(ObjectCache::directory(&path, true).map_err(failed)?)
        }
        FarKind::Reapi => Arc::new(ReapiCache::new(&server(table)?).map_err(failed)?),
    };
    let printer = Printer::new(environment);
    let notice = Arc::new(move |text: &str| printer.labelled(Label::Warning, text));
    let (writes, queue_limit) = (table.writes(), table.queue_limit());
    Ok(Some(FarSetup { far, writes, queue_limit, pause: PAUSE, notice }))
}

fn server(table: &FarTable) -> Result<ReapiSettings, Failure> {
    let token = table.token().map_err(|error| word(&error))?;
    let authorities = table.authorities().map_err(|error| word(&error))?;
    let identity = table.identity().map_err(|error| word(&error))?;
    Ok(ReapiSettings {
        url: table.url.clone().unwrap_or_default(),
        token: token.map(|token| Secret::new(token.reveal())),
        authorities,
        identity: identity.map(|(certificate, key)| (certificate, Secret::new(key.reveal()))),
        timeouts: Timeouts { connect: table.timeout(), idle: table.timeout() },
    })
}

fn bucket(table: &FarTable, environment: &Environment) -> Result<S3Settings, Failure> {
    let secret = table.secret_access_key().map_err(|error| word(&error))?;
    let own = table.access_key_id.clone().zip(secret.map(|secret| secret.reveal().to_owned()));
    let of_environment =
        environment.text("AWS_ACCESS_KEY_ID").zip(environment.text("AWS_SECRET_ACCESS_KEY"));
    // A session's token belongs to the keys beside it.
    let session_token = match own {
        None => environment.text("AWS_SESSION_TOKEN").map(Secret::new),
        Some(_) => None,
    };
    let key = own.or(of_environment).map(|(id, secret)| (id, Secret::new(secret)));
    let endpoint = table.endpoint_url.clone();
    Ok(S3Settings {
        bucket: table.bucket.clone().unwrap_or_default(),
        prefix: table.prefix.trim_matches('/').to_owned(),
        region: table.region.clone().or_else(|| environment.text("AWS_REGION")),
        key,
        session_token,
        path_style: table.use_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        timeouts: Timeouts { connect: table.timeout(), idle: table.timeout() },
    })
}
