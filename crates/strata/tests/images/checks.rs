//! What the checks make of base images.

use crate::world::World;

const APP: &str = "FROM based\nCOPY --chown=$OWNER Dockerfile /a\n\
    COPY --chown=$NOBODY Dockerfile /b\nWORKDIR below\nENTRYPOINT sh -c x\n";

#[test]
fn what_the_store_has_of_a_base_image_counts() {
    let world = World::new();
    world.write("app/Dockerfile", APP);
    let rules = || {
        let said = world.run(&["check", "--format", "json", "app"]);
        let found: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let warnings = found["warnings"].as_array().expect("a list").clone();
        let names = warnings.iter().map(|one| one["ruleName"].as_str().expect("a name"));
        names.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    // No store is made for a question.
    assert_eq!(rules(), "WorkdirRelativePath JSONArgsRecommended");
    assert!(!world.path("store").exists());
    let base = "FROM scratch\nENV OWNER=5\nSHELL [\"/bin/sh\", \"-e\"]\nWORKDIR /work\n";
    world.write("base/Dockerfile", base);
    world.run(&["build", "-q", "-t", "based", "base"]).ok();
    // `OWNER` and the shell are the base's; that `NOBODY` is nobody's is certain now.
    assert_eq!(rules(), "UndefinedVar WorkdirRelativePath");
    let said = world.run(&["build", "app"]).ok();
    assert!(said.err.contains("2 warnings: see `strata check`"), "{}", said.err);
    // Another platform's image tells nothing.
    let said = world.run(&["check", "--platform", "linux/s390x", "app"]);
    assert!(said.out.contains("JSONArgsRecommended"), "{}", said.out);
}
