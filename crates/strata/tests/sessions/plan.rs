//! What a plan says before and after the build.

use crate::session::Session;

const DOCKERFILE: &str = "\
FROM scratch AS files
COPY a /a
FROM scratch
ARG REV=1
COPY --from=files /a /b
ENV X=y
EXPOSE 80
CMD [\"/b\"]
";

#[test]
fn a_table_with_what_is_in_the_cache() {
    let session = Session::with(&[("Dockerfile", DOCKERFILE), ("a", "one\n")]);
    let expected = "\
exit code 0
--- stdout
STAGE   KIND            CACHE       INSTRUCTION
1       base            -           FROM scratch
1       argument        -           ARG REV=1
files   base            -           FROM scratch AS files
files   layer           would run   COPY a /a
1       layer           depends     COPY --from=files /a /b
1       metadata only   -           ENV X=y
1       metadata only   -           EXPOSE 80
1       metadata only   -           CMD [\"/b\"]

1 new layer over an empty base (1 in all), 3 metadata-only instructions
";
    session.check("plan .", expected);
    session.stdout("build .");
    let said = session.stdout_text("plan .");
    assert_eq!(said.matches("   hit   ").count(), 2, "{said}");
}

#[test]
fn nothing_is_built_by_it() {
    let session = Session::with(&[("Dockerfile", DOCKERFILE), ("a", "one\n")]);
    session.stdout("plan .");
    let said = session.stdout_text("plan --format json .");
    let plan: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(plan["new_layers"], 1);
    assert_eq!(plan["base_layers"], 0);
    assert_eq!(plan["metadata_only"], 3);
    let caches = plan["instructions"].as_array().expect("a list").iter();
    let caches: Vec<&str> = caches.filter_map(|one| one["cache"].as_str()).collect();
    assert_eq!(caches, ["would run", "depends"]);
}
