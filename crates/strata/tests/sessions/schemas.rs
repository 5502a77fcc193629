//! Every JSON document that strata writes for others, by the schemas of the OCI image
//! specification (`schemas/`).

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::attest::Layout;
use crate::session::Session;

const DOCKERFILE: &str = r#"FROM scratch AS base
COPY a /a
FROM base
LABEL one="1" two="zwei ü"
ENV PATH=/bin EMPTY=
EXPOSE 80 53/udp
VOLUME /data /more
USER 1000:1000
WORKDIR /work
HEALTHCHECK --interval=5s --retries=2 CMD ["/a"]
SHELL ["/a", "-c"]
STOPSIGNAL SIGKILL
ENTRYPOINT ["/a"]
CMD ["b"]
ONBUILD RUN true
"#;

/// A document, its name, and the schema that it is held to.
fn documents(layout: &Layout) -> Vec<Value> {
    let index = layout.json("index.json");
    let mut found = vec![
        json!(["image-layout-schema.json", "oci-layout", layout.json("oci-layout")]),
        json!(["image-index-schema.json", "index.json", index]),
    ];
    let mut left = index["manifests"].as_array().expect("manifests").clone();
    while let Some(descriptor) = left.pop() {
        found.push(json!(["content-descriptor.json", "a descriptor", descriptor]));
        let document = layout.blob(&descriptor);
        if let Some(manifests) = document["manifests"].as_array() {
            left.extend(manifests.iter().cloned());
            found.push(json!(["image-index-schema.json", "an index", document]));
            continue;
        }
        for layer in document["layers"].as_array().expect("layers") {
            found.push(json!(["content-descriptor.json", "a layer", layer]));
        }
        let config = layout.blob(&document["config"]);
        found.push(json!(["config-schema.json", "a config", config]));
        found.push(json!(["image-manifest-schema.json", "a manifest", document]));
    }
    found
}

/// What the schemas have against these documents.
fn complaints(documents: &[Value]) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sessions/schemas");
    let mut python = Command::new("python3")
        .arg(format!("{folder}/validate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3: `scripts/setup.sh test` installs it");
    let input = Value::from(documents.to_vec()).to_string();
    python.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "python3-jsonschema: `scripts/setup.sh test` installs it");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_document_is_as_its_schema_says() {
    let session = Session::with(&[("src/Dockerfile", DOCKERFILE), ("src/a", "a")]);
    let mut all = Vec::new();
    let lines = [
        "build -t app -o type=oci,dest=o.tar src",
        "build -t app -o type=oci,dest=o.tar,compression=zstd --provenance=true --sbom=true src",
        "build -t app -o type=oci,dest=o.tar --platform linux/amd64,linux/arm64 --annotation a=b \
         --annotation index:c=d --annotation manifest-descriptor:e=f src",
        "build -t app -t app:2 -o type=docker,dest=o.tar --platform linux/arm/v7 src",
        "save --format oci-archive -o o.tar app:2",
        "save -o o.tar app app:2",
    ];
    for line in lines {
        let documents = documents(&Layout::written_by(&session, line));
        assert!(documents.len() >= 5, "{line}: {documents:?}");
        assert_eq!(complaints(&documents), "", "strata {line}");
        all.extend(documents);
    }
    // The schemas are really asked.
    let wrong = [
        json!(["image-manifest-schema.json", "it", {"schemaVersion": 1}]),
        json!(["content-descriptor.json", "it", {"mediaType": "a", "digest": "b", "size": -1}]),
        json!(["config-schema.json", "it", {"os": 1}]),
    ];
    for one in wrong {
        assert_ne!(complaints(std::slice::from_ref(&one)), "", "{one}");
    }
}
