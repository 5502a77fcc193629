//! A Dockerfile and the ONBUILD triggers of its base image, all the way to a plan: an answer, be it
//! an error, and the same one twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_dockerfile::{SyntaxTree, parse};
use strata_oci::{Digest, ImageConfig};
use strata_plan::{ImageNeed, Plan, PlanError, Request, ResolvedImage, plan};

fuzz_target!(|input: (&str, Vec<String>)| {
    let (dockerfile, triggers) = input;
    let read = parse(dockerfile.as_bytes());
    if read.has_errors() {
        return;
    }
    let first = planned(&read.tree, &triggers);
    let second = planned(&read.tree, &triggers);
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.image.history, second.image.history);
            assert_eq!(first.entries, second.entries);
            for (at, step) in first.steps.iter().enumerate() {
                assert!(step.parent.is_none_or(|parent| parent < at), "a step before its parent");
            }
        }
        (Err(first), Err(second)) => assert_eq!(first, second),
        _ => panic!("a plan and none from the same file"),
    }
});

fn planned(tree: &SyntaxTree, triggers: &[String]) -> Result<Plan, PlanError> {
    let image = |need: &ImageNeed| {
        let digest = Digest::of(need.name.to_string().as_bytes());
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(digest);
        config.config.on_build = Some(triggers.to_vec());
        Some(ResolvedImage { digest, config })
    };
    plan(&Request::new(tree), &image)
}
