//! Dockerfiles of well-known projects, unchanged: read without an error, checked without a false
//! finding, planned to the layers that they say. Sources and licences: `projects/README.md`.

use std::collections::BTreeMap;

use strata_dockerfile::{CheckRequest, check, parse};
use strata_oci::{Digest, ImageConfig};
use strata_plan::{ImageNeed, Op, Request, ResolvedImage, plan};

/// An image with one layer.
fn image(need: &ImageNeed) -> Option<ResolvedImage> {
    let digest = Digest::of(need.name.to_string().as_bytes());
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids.push(digest);
    Some(ResolvedImage { digest, config })
}

/// Reads, checks and plans a project's file. Layers are those that it adds to its base; steps are
/// all that must run for it, in all stages; findings are lines and codes.
#[track_caller]
fn project(source: &str, layers: usize, steps: usize, findings: &[(usize, &str)]) {
    let parse = parse(source.as_bytes());
    let arguments = BTreeMap::new();
    let report = check(&parse, &CheckRequest::new(&arguments));
    let found = report.findings.iter();
    let found: Vec<_> =
        found.map(|each| (parse.tree.line_of(each.span.start), each.code)).collect();
    assert_eq!(found, findings);
    let plan = plan(&Request::new(&parse.tree), &image).expect("a plan");
    let lines = plan.image.history.iter();
    assert_eq!(lines.filter(|line| line.step.is_some()).count(), layers, "layers");
    let all = plan.steps.iter();
    assert_eq!(all.filter(|step| !matches!(step.op, Op::Image(_))).count(), steps, "steps");
}

#[test]
fn distribution() {
    // version: base's COPY, RUN, WORKDIR and its own RUN; build: one more; binary: one COPY.
    project(include_str!("projects/distribution.Dockerfile"), 3, 9, &[]);
}

#[test]
fn excalidraw() {
    project(include_str!("projects/excalidraw.Dockerfile"), 1, 5, &[]);
}

#[test]
fn gogs() {
    project(include_str!("projects/gogs.Dockerfile"), 6, 18, &[]);
}

#[test]
fn libpathrs() {
    // The stage `install` is not needed.
    project(include_str!("projects/libpathrs.Dockerfile"), 9, 13, &[]);
}

#[test]
fn num_cpus() {
    let findings = [(5, "copy-all-before-install")];
    project(include_str!("projects/num_cpus.Dockerfile"), 3, 3, &findings);
}

#[test]
fn redash() {
    project(include_str!("projects/redash.Dockerfile"), 10, 20, &[]);
}

#[test]
fn redash_cypress() {
    let findings = [(3, "LegacyKeyValueFormat")];
    project(include_str!("projects/redash-cypress.Dockerfile"), 6, 6, &findings);
}

#[test]
fn rocksdb() {
    let findings = [
        (30, "apt-get-update-alone"),
        (60, "LegacyKeyValueFormat"),
        (66, "LegacyKeyValueFormat"),
        (71, "LegacyKeyValueFormat"),
        (72, "LegacyKeyValueFormat"),
    ];
    project(include_str!("projects/rocksdb-build.Dockerfile"), 21, 21, &findings);
    let findings = [(5, "JSONArgsRecommended")];
    project(include_str!("projects/rocksdb-tools.Dockerfile"), 1, 1, &findings);
}

#[test]
fn whoami() {
    project(include_str!("projects/whoami.Dockerfile"), 3, 10, &[]);
}
