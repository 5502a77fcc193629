//! A server that is another registry's mirror, with real clients.

use std::process::Command;

use crate::serve::Serving;
use crate::world::{Said, World};

fn skopeo(arguments: &[&str]) -> Said {
    let mut command = Command::new("skopeo");
    Said::of(&command.arg("--insecure-policy").args(arguments).output().expect("skopeo"))
}

fn digest(host: &str) -> String {
    let name = format!("docker://{host}/app:latest");
    let said =
        skopeo(&["inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}", &name]);
    said.ok().out.trim().to_owned()
}

#[test]
fn a_mirror_fetches_once_and_answers_when_its_registry_is_gone() {
    let far = World::with_base();
    let registry = Serving::start(&far);
    far.write("app/file", "one\n");
    far.write("app/Dockerfile", "FROM case-base\nCOPY file /\n");
    far.run(&["build", "-q", "-t", "app", "app"]).ok();

    let near = World::new();
    let table = format!(
        "[[serve.mirror]]\nregistry = \"{}\"\nrefresh = 0\ndefault = true\n",
        registry.host
    );
    let mirror = Serving::configured(&near, &table);
    let pull = |into: &str| {
        let layout = format!("oci:{}:x", near.path(into).display());
        let name = format!("docker://{}/app:latest", mirror.host);
        skopeo(&["copy", "--src-tls-verify=false", &name, &layout]).ok();
    };
    pull("first");
    assert_eq!(digest(&mirror.host), digest(&registry.host));
    // A tag that moves is followed.
    far.write("app/file", "two\n");
    far.run(&["build", "-q", "-t", "app", "app"]).ok();
    let second = digest(&registry.host);
    assert_eq!(digest(&mirror.host), second);
    pull("second");

    let tags = || {
        let name = format!("docker://{}/app", mirror.host);
        skopeo(&["list-tags", "--tls-verify=false", &name]).ok().out.contains("\"latest\"")
    };
    assert!(tags());

    registry.stop();
    assert!(tags());
    assert_eq!(digest(&mirror.host), second);
    pull("third");
    // strata itself, too.
    let machine = World::new();
    machine.run(&["pull", &format!("{}/app", mirror.host)]).ok();
    let missing = format!("docker://{}/other:1", mirror.host);
    let said = skopeo(&["inspect", "--tls-verify=false", "--retry-times=0", &missing]);
    assert_ne!(said.code, 0);
    mirror.stop();
    near.run(&["fsck"]).ok();
}
