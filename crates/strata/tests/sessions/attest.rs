//! What is said about an image and goes with it: provenance and a list of its packages, in
//! BuildKit's layout.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::session::{Session, files_in};

const DPKG: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n\
    Source: glibc (2.36-8)\nVersion: 2.36-9+deb12u1\n\n\
    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
const DOCKERFILE: &str = "FROM scratch\nARG TOKEN\nARG V=1\nCOPY root /\nCOPY app/$V /app\n";

fn project() -> Session {
    Session::with(&[
        ("src/Dockerfile", DOCKERFILE),
        ("src/root/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("src/root/var/lib/dpkg/status", DPKG),
        ("src/root/usr/lib/python3/Flask-3.0.dist-info/METADATA", "Name: Flask\nVersion: 3.0\n"),
        ("src/app/1/node_modules/@a/b/package.json", r#"{"name":"@a/b","version":"2.0.0"}"#),
        ("src/app/1/package.json", r#"{"name":"app","version":"0.0.1"}"#),
    ])
}

/// The documents of an OCI archive by their names.
pub(crate) struct Layout(BTreeMap<String, String>);

impl Layout {
    pub(crate) fn written_by(session: &Session, line: &str) -> Self {
        session.stdout(line);
        let tar = std::fs::read(session.path("o.tar")).expect("an archive");
        Self(files_in(&tar).into_iter().collect())
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.0[name]).expect(name)
    }

    pub(crate) fn blob(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let name = format!("blobs/sha256/{}", &digest["sha256:".len()..]);
        assert_eq!(descriptor["size"], self.0[&name].len(), "{name}");
        self.json(&name)
    }

    fn index(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
        self.blob(&index["manifests"][0])
    }

    /// The predicates of the first image's statements, by their types.
    fn predicates(&self) -> BTreeMap<String, Value> {
        let index = self.index();
        let [image, attestation] = &index["manifests"].as_array().expect("manifests")[..] else {
            unreachable!("{index}")
        };
        let unknown = serde_json::json!({"architecture": "unknown", "os": "unknown"});
        assert_eq!(attestation["platform"], unknown);
        let notes = &attestation["annotations"];
        assert_eq!(notes["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(notes["vnd.docker.reference.digest"], image["digest"]);
        let manifest = self.blob(attestation);
        let config = self.blob(&manifest["config"]);
        let layers = manifest["layers"].as_array().expect("layers");
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff IDs");
        let mut predicates = BTreeMap::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            assert_eq!(&layer["digest"], diff_id);
            let statement = self.blob(layer);
            assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
            let kind = statement["predicateType"].as_str().expect("a type");
            assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], kind);
            let subject = &statement["subject"][0];
            let digest = subject["digest"]["sha256"].as_str().expect("a digest");
            assert_eq!(image["digest"], format!("sha256:{digest}"));
            assert_eq!(subject["name"], "pkg:docker/app@latest?platform=linux%2Famd64");
            predicates.insert(kind.to_owned(), statement["predicate"].clone());
        }
        predicates
    }
}

const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v1";
const BUILD: &str = "build --platform linux/amd64 -t app -o type=oci,dest=o.tar src";

#[test]
fn packages_are_those_of_the_image() {
    let session = project();
    let layout = Layout::written_by(&session, &format!("{BUILD} --sbom=true"));
    let predicates = layout.predicates();
    assert_eq!(predicates.len(), 1);
    let spdx = &predicates[SPDX];
    assert_eq!(
        (&spdx["spdxVersion"], &spdx["SPDXID"]),
        (&"SPDX-2.3".into(), &"SPDXRef-DOCUMENT".into())
    );
    assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let packages = spdx["packages"].as_array().expect("packages");
    let urls = packages.iter().filter_map(|it| it["externalRefs"][0]["referenceLocator"].as_str());
    let expected = [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:npm/%40a/b@2.0.0",
        "pkg:pypi/flask@3.0",
    ];
    assert_eq!(urls.collect::<Vec<_>>(), expected);
    // Each has a name of its own, and all are named by a relation.
    let ids: Vec<&Value> = packages.iter().map(|package| &package["SPDXID"]).collect();
    let relations = spdx["relationships"].as_array().expect("relations");
    let related: Vec<&Value> = relations.iter().map(|it| &it["relatedSpdxElement"]).collect();
    assert_eq!(related, ids);
    let again = Layout::written_by(&session, &format!("{BUILD} --sbom=true"));
    assert_eq!(again.index(), layout.index(), "a list of packages is a function of the image");
}

#[test]
fn provenance_says_what_was_asked_for_and_what_became_of_it() {
    let session = project();
    let line = format!("{BUILD} --attest type=provenance --build-arg TOKEN=hunter2 --label l=x");
    let layout = Layout::written_by(&session, &line);
    let provenance = &layout.predicates()[SLSA];
    let definition = &provenance["buildDefinition"];
    let arguments = &definition["externalParameters"]["request"]["args"];
    assert_eq!(arguments["build-arg:TOKEN"], "***");
    assert_eq!(arguments["label:l"], "x");
    assert_eq!(definition["externalParameters"]["configSource"]["path"], "Dockerfile");
    assert_eq!(definition["resolvedDependencies"], serde_json::json!([]));
    let metadata = &provenance["runDetails"]["metadata"];
    assert_eq!(metadata["startedOn"], "2023-11-14T22:13:20Z");
    assert_eq!(metadata["strata_source"]["text"], DOCKERFILE);
    let steps = metadata["strata_steps"].as_array().expect("steps");
    let told: Vec<_> = steps.iter().map(|it| (&it["instruction"], &it["verdict"])).collect();
    let ran = Value::from("ran: first");
    let (one, two) = ("COPY root /".into(), "COPY app/$V /app".into());
    assert_eq!(told, [(&one, &ran), (&two, &ran)]);
    // The image's own history has it, as `ARG` always has.
    assert!(!provenance.to_string().contains("hunter2"), "{provenance}");

    let line = format!("{BUILD} --provenance=mode=min --build-arg V=1 --metadata-file m.json");
    let layout = Layout::written_by(&session, &line);
    let provenance = &layout.predicates()[SLSA];
    let arguments = &provenance["buildDefinition"]["externalParameters"]["request"]["args"];
    assert_eq!(*arguments, serde_json::json!({"platform": "linux/amd64"}));
    let metadata = &provenance["runDetails"]["metadata"];
    assert!(metadata.get("strata_source").is_none());
    let steps = metadata["strata_steps"].as_array().expect("steps");
    let told: Vec<_> = steps.iter().map(|it| (&it["instruction"], &it["verdict"])).collect();
    let (copy, cached) = ("COPY".into(), "cached".into());
    assert_eq!(told, [(&copy, &cached), (&copy, &cached)]);
    let metadata: Value = serde_json::from_str(&session.read("m.json")).expect("JSON");
    assert_eq!(metadata["buildx.build.provenance"], *provenance);
}

#[test]
fn the_image_itself_stays_what_it_is() {
    let session = project();
    let plain = Layout::written_by(&session, BUILD);
    let plain = plain.json("index.json")["manifests"][0]["digest"].clone();
    let line = format!("{BUILD} --provenance=true --sbom=true");
    let attested = Layout::written_by(&session, &line);
    assert_eq!(attested.predicates().len(), 2);
    assert_eq!(attested.index()["manifests"][0]["digest"], plain);
    // It can be loaded, and what is loaded is the image.
    let other = Session::new();
    std::fs::copy(session.path("o.tar"), other.path("o.tar")).expect("copied");
    other.stdout("load -i o.tar");
    let id = |session: &Session| {
        let said = session.stdout_text("inspect app");
        let images: Value = serde_json::from_str(&said).expect("JSON");
        images[0]["Id"].clone()
    };
    assert_eq!(id(&other), id(&session));
    // What is said about it came along, and goes on with it.
    let again = Layout::written_by(&other, "save --format oci-archive -o o.tar app");
    assert_eq!(again.predicates(), attested.predicates());
    // What `docker load` reads has no index in it that old ones could not read.
    let docker = "build --sbom=true -t app -o type=docker,dest=o.tar src";
    let output = session.command(docker).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("what this build writes has none"), "{talk}");
    let tar = std::fs::read(session.path("o.tar")).expect("an archive");
    assert!(files_in(&tar).iter().all(|(_, text)| !text.contains("predicateType")));
}

#[test]
fn what_was_said_of_an_image_goes_with_it_later() {
    let session = project();
    let build = "build --platform linux/amd64 -t app src";
    session.stdout(&format!("{build} --provenance=true --sbom=true"));
    let save = "save --format oci-archive -o o.tar app";
    let saved = Layout::written_by(&session, save);
    let predicates = saved.predicates();
    assert_eq!(predicates.keys().map(String::as_str).collect::<Vec<_>>(), [SLSA, SPDX]);
    let now = Layout::written_by(&session, &format!("{BUILD} --sbom=true")).predicates();
    assert_eq!(now[SPDX], predicates[SPDX]);
    // The last build has the last word.
    assert_eq!(Layout::written_by(&session, save).predicates().len(), 1);
    session.stdout("tag app other");
    let other = Layout::written_by(&session, "save --format oci-archive -o o.tar other").index();
    assert_eq!(other["manifests"].as_array().map(Vec::len), Some(2));
    session.stdout(build);
    let plain = Layout::written_by(&session, save).json("index.json")["manifests"][0].clone();
    assert_eq!(plain["mediaType"], "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn mistakes_are_usage() {
    let session = project();
    let expected = "exit code 2\n--- stderr\n\
        error: `--provenance mode=mid`: unknown mode `mid`\nhint: did you mean `min`?\n";
    session.check("build --provenance mode=mid src", expected);
}
