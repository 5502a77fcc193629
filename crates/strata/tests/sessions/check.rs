//! What the checks say, and what they make of a build.

use serde_json::Value;

use crate::session::Session;

const DOCKERFILE: &str = "\
FROM scratch AS Base
ENV a b
FROM scratch
COPY . .
CMD run me
";

#[test]
fn findings_are_drawn_and_fail_as_dockers() {
    let session = Session::with(&[("Dockerfile", DOCKERFILE)]);
    let expected = "\
exit code 1
--- stdout
warning[StageNameCasing]: the stage name `Base` should be in lower case
 --> Dockerfile:1:17
  |
1 | FROM scratch AS Base
  |                 ^^^^
  |
  = hint: write `base`, here and where the stage is used

warning[LegacyKeyValueFormat]: `ENV key value` is the old form of `ENV key=value`
 --> Dockerfile:2:5
  |
2 | ENV a b
  |     ^^^
  |
  = hint: write `ENV a=b`

warning[JSONArgsRecommended]: `CMD` in shell form: signals reach the shell only
 --> Dockerfile:5:1
  |
5 | CMD run me
  | ^^^
  |
  = hint: write `CMD [\"run\", \"me\"]`

--- stderr
3 warnings
";
    session.check("check", expected);
    session.check("build --check .", expected);
    session.check("build --call=check .", expected);
    let target = session.command("check --target 1 --format json .").output().expect("it runs");
    let found: Value = serde_json::from_slice(&target.stdout).expect("JSON");
    let names = found["warnings"].as_array().expect("a list").iter();
    let names: Vec<&str> = names.filter_map(|one| one["ruleName"].as_str()).collect();
    assert_eq!(names, ["StageNameCasing", "JSONArgsRecommended"]);
    session.stdout("build --call=check,format=json,ignorestatus=true .");
}

#[test]
fn nothing_to_say() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nCOPY a /\n")]);
    session.check("check", "exit code 0\n--- stderr\nno warnings\n");
    session.check(
        "check --target nope",
        "\
exit code 1
--- stdout
error[unknown-target]: target stage `nope` could not be found

--- stderr
1 error, 0 warnings
",
    );
}

#[test]
fn errors_of_a_dockerfile_are_findings() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nMAINTAINER me\nRUM x\n")]);
    let output = session.command("check --format json").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["warnings"][0]["ruleName"], "MaintainerDeprecated");
    assert_eq!(found["buildError"]["message"], "unknown instruction: `RUM`");
    assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 3);
}

/// What has no mistake in its words and fails when it is planned: as docker, of all stages.
#[test]
fn errors_of_the_plan_are_findings() {
    let check = |file: &str, line: &str, expected: &[(u64, &str)]| {
        let session = Session::with(&[("Dockerfile", file)]);
        let output = session.command(line).output().expect("it runs");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let errors = found["errors"].as_array().expect("a list").iter().map(|error| {
            let line = error["location"]["place"]["start"]["line"].as_u64().expect("a line");
            (line, error["message"].as_str().expect("a text"))
        });
        assert_eq!(errors.collect::<Vec<_>>(), expected, "{file}");
        assert_eq!(output.status.code(), Some(i32::from(!expected.is_empty())), "{file}");
    };
    let json = "check --format json";
    let circular = "FROM scratch AS a\nCOPY --from=b x /\nFROM a AS b\nCOPY --from=a x /\n";
    check(circular, json, &[(2, "stage `b` must be defined before it is copied from")]);
    let unused = "FROM scratch AS a\nENV A=${B?x}\nFROM scratch\nCOPY x /\n";
    check(unused, json, &[(2, "`B`: x")]);
    check(unused, "check --format json --target 1", &[]);
    // What a variable of an unknown image is, nobody knows; the image itself need not be there.
    check("FROM nosuch.invalid/i\nENV P=abc\nEXPOSE $Q/tcp\nCMD [\"a\"]\n", json, &[]);
    check("FROM nosuch.invalid/i\nSTOPSIGNAL $S\nCMD [\"a\"]\n", json, &[]);
    let own = "FROM scratch\nARG P=abc\nEXPOSE $P\n";
    check(own, json, &[(3, "`abc` is not a port: a number from 1 to 65535 is expected")]);
    let blank = "ARG N\nFROM a AS one\nCOPY x /\nFROM $N\n";
    check(blank, json, &[(4, "`$N` is blank: no such image")]);
}

#[test]
fn an_error_of_the_plan_is_drawn() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nSTOPSIGNAL FOO\n")]);
    let expected = "\
exit code 1
--- stdout
error[bad-signal]: `FOO` is not a signal
 --> Dockerfile:2:12
  |
2 | STOPSIGNAL FOO
  |            ^^^
  |
  = hint: write a name such as `SIGTERM` or a number from 1 to 64

--- stderr
1 error, 0 warnings
";
    session.check("check", expected);
    session.check("build --check .", expected);
    let output = session.command("check --format sarif").output().expect("it runs");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let result = &found["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"bad-signal".into(), &"error".into()));
}

#[test]
fn lines_are_dockers_and_places_exact() {
    let file = "FROM scratch\nENV \\\n  a=$b \\\n\n  c=1\nARG d\n";
    let session = Session::with(&[("Dockerfile", file)]);
    let output = session.command("build --call=check,format=json .").output().expect("it runs");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let warnings = found["warnings"].as_array().expect("a list");
    let of = |rule: &str| {
        let warning = warnings.iter().find(|warning| warning["ruleName"] == rule).expect(rule);
        let ranges = warning["location"]["ranges"].as_array().expect("a list");
        let lines = ranges.iter().filter_map(|range| range["start"]["line"].as_u64());
        let place = &warning["location"]["place"]["start"];
        (lines.collect::<Vec<_>>(), place["line"].as_u64(), place["column"].as_u64())
    };
    assert_eq!(of("UndefinedVar"), (vec![2, 3, 4, 5], Some(3), Some(5)));
    assert_eq!(of("NoEmptyContinuation"), (vec![5], Some(4), Some(1)));
}

#[test]
fn sarif() {
    let session = Session::with(&[("my dockerfile", "FROM scratch AS B\n")]);
    let output = session.command("check --format sarif -f").arg("my dockerfile").output();
    let found: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
    assert_eq!(found["version"], "2.1.0");
    let result = &found["runs"][0]["results"][0];
    assert_eq!(
        (&result["ruleId"], &result["level"]),
        (&"StageNameCasing".into(), &"warning".into())
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "my%20dockerfile");
    let region = serde_json::json!(
        { "startLine": 1, "startColumn": 17, "endLine": 1, "endColumn": 18 }
    );
    assert_eq!(place["region"], region);
}

#[test]
fn the_ignore_file_counts() {
    let session = Session::with(&[(".dockerignore", "secret*\n")]);
    session.write("Dockerfile", "# check=experimental=all\nFROM scratch\nCOPY secret.env /\n");
    let found = session.command("check").output().expect("it runs").stdout;
    assert!(String::from_utf8_lossy(&found).contains("warning[CopyIgnoredFile]"));
    session.write(".dockerignore", "secret*\n!secret.env\n");
    session.stdout("check");
}

#[test]
fn a_build_counts_what_it_did_not_say() {
    let session = Session::with(&[("Dockerfile", DOCKERFILE)]);
    let said = session.command("build --progress plain .").output().expect("it runs").stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.ends_with("\n2 warnings: see `strata check`\n"), "{said}");
    let said = session.command("build -q .").output().expect("it runs").stderr;
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn a_file_can_want_its_warnings_to_stop_a_build() {
    let session = Session::with(&[("Dockerfile", "# check=error=true\nFROM scratch AS B\n")]);
    session.check(
        "build .",
        "\
exit code 1
--- stderr
warning: the stage name `B` should be in lower case
 --> Dockerfile:2:17
  |
2 | FROM scratch AS B
  |                 ^
  |
  = hint: write `b`, here and where the stage is used
note: `check=error=true` makes these warnings stop the build
",
    );
    session.stdout("build -q --build-arg BUILDKIT_DOCKERFILE_CHECK=skip=all .");
    let wrong = session.command("build --build-arg BUILDKIT_DOCKERFILE_CHECK=x .").output();
    assert_eq!(wrong.expect("it runs").status.code(), Some(1));
}
