//! The image config: what an image is and how it runs (OCI image specification, "config", with
//! Docker's fields). Unknown fields of a base image are carried along.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, Platform};

/// The JSON document that a manifest's `config` names; its digest is the image's id.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// How the image runs.
    #[serde(default)]
    pub config: RuntimeConfig,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What made each layer, lowest first, metadata-only instructions between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Operating system in Go's words.
    #[serde(default)]
    pub os: String,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that are not listed here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// What the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
        }
    }
}

/// How an image runs. The names are Docker's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeConfig {
    /// User and group that the process runs as.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports such as `3000/tcp`; the values are empty objects.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub exposed_ports: Option<BTreeMap<String, Map<String, Value>>>,
    /// `NAME=VALUE`, in order.
    #[serde(default, skip_serializing_if = "none_or_no_items")]
    pub env: Option<Vec<String>>,
    /// The program, with first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that live outside the image when it runs; the values are empty objects.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub volumes: Option<BTreeMap<String, Map<String, Value>>>,
    /// Where the process starts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks the process to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How to tell whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from this image.
    #[serde(default, skip_serializing_if = "none_or_no_items")]
    pub on_build: Option<Vec<String>>,
    /// The shell of the shell forms.
    #[serde(default, skip_serializing_if = "none_or_no_items")]
    pub shell: Option<Vec<String>>,
    /// Fields that are not listed here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn none_or_empty<V>(map: &Option<BTreeMap<String, V>>) -> bool {
    map.as_ref().is_none_or(BTreeMap::is_empty)
}

fn none_or_no_items(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// Docker's HEALTHCHECK. Times are in nanoseconds; 0 stands for the engine's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", TEXT]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time that one check may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The Dockerfile's MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What else the builder says, such as `buildkit.dockerfile.v0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it has no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers of an image by their uncompressed tars' digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Lowest first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_unknown_fields_of_a_base_image() {
        let text = r#"{"architecture":"amd64","config":{"Env":["A=b"],"ArgsEscaped":true},
            "os":"linux","rootfs":{"type":"layers","diff_ids":[]},"moby.buildkit.x":[1]}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("a config");
        let written = serde_json::to_string(&config).expect("serialised");
        let compact: String = text.split_whitespace().collect();
        assert_eq!(written, compact);
    }

    #[test]
    fn reads_null_fields_as_old_docker_wrote_them() {
        let text = r#"{"config":{"Env":null,"Cmd":null,"Labels":null,"Volumes":null}}"#;
        assert!(serde_json::from_str::<ImageConfig>(text).is_ok());
    }
}
