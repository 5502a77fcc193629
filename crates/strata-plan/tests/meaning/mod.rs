//! What a Dockerfile means, for tests that change how it is written.

use std::path::{Path, PathBuf};

use strata_dockerfile::SyntaxTree;
use strata_oci::{Digest, ImageConfig};
use strata_plan::{ImageNeed, PlanError, Request, ResolvedImage, plan};

/// All that a file means, without places and without its own words.
pub(crate) fn meaning(tree: &SyntaxTree) -> String {
    let image = |need: &ImageNeed| {
        let digest = Digest::of(need.name.to_string().as_bytes());
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(digest);
        Some(ResolvedImage { digest, config })
    };
    let request = Request::new(tree);
    match plan(&request, &image) {
        Ok(plan) => {
            let steps = plan.steps.iter();
            let steps: Vec<_> =
                steps.map(|each| (&each.stage, each.ordinal, each.parent, &each.op)).collect();
            without_places(&format!("{steps:#?}\n{:#?}", plan.image))
        }
        Err(PlanError::Wrong(wrong)) => wrong.iter().map(|each| each.message.clone()).collect(),
        Err(PlanError::Missing(_)) => "missing".to_owned(),
    }
}

fn without_places(text: &str) -> String {
    let is_place = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("start: ") || line.starts_with("end: ")
    };
    text.lines().filter(|line| !is_place(line)).collect::<Vec<_>>().join("\n")
}

/// The Dockerfiles of this workspace's other tests.
pub(crate) fn dockerfiles() -> Vec<PathBuf> {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../strata/tests"), &mut files);
    assert!(files.len() > 80, "{} files", files.len());
    files
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, found);
        } else if entry.file_name().to_string_lossy().contains("Dockerfile") {
            found.push(path);
        }
    }
}
