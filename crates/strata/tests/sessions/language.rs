//! What can be asked of a Dockerfile and done to it without building it: `--call`, `fmt`,
//! `check --fix`, and frontends that are not built in.

use serde_json::Value;

use crate::session::Session;

const OUTLINED: &str = "\
# VERSION is the version of it
# check=skip=x
ARG VERSION=1.2
ARG UNUSED=3
# BASE the base
ARG BASE=busybox
# base is the first stage
FROM ${BASE} AS base
ARG VERSION
# LOCAL a local one
ARG LOCAL=$VERSION-x SECOND
RUN --mount=type=secret,id=tok,required=true --mount=type=ssh --mount=type=cache,target=/c true
RUN --mount=type=secret,id=tok2 --mount=type=ssh,id=k,required true

# release the result
FROM --platform=$BUILDPLATFORM base AS release
ARG REL
RUN --mount=type=secret,target=/run/x true
FROM scratch
COPY --from=release /bin/busybox /
ARG A=\"b c\"
FROM scratch AS last
ENV X=1
";

/// Taken from `docker buildx build --call=...` (docker 28.5.2, buildx 0.29.1).
#[test]
fn outlines_and_targets_are_dockers() {
    let session = Session::with(&[("Dockerfile", OUTLINED)]);
    let out = |line: &str| String::from_utf8(session.stdout(line)).expect("text");
    assert_eq!(
        out("build --call=outline --target release ."),
        "TARGET:      release\n\
         DESCRIPTION: the result\n\
         \n\
         BUILD ARG   VALUE     DESCRIPTION\n\
         VERSION     1.2       is the version of it\n\
         BASE        busybox   the base\n\
         LOCAL       1.2-x     a local one\n\
         SECOND                \n\
         REL                   \n\
         \n\
         SECRET   REQUIRED\n\
         tok      true\n\
         tok2     \n\
         x        \n\
         \n\
         SSH       REQUIRED\n\
         default   \n\
         k         true\n\
         \n"
    );
    assert_eq!(out("build --call outline ."), "TARGET: last\n\n");
    assert_eq!(
        out("build --call=targets ."),
        "TARGET         DESCRIPTION\n\
         base           is the first stage\n\
         release        the result\n               \n\
         last (default) \n"
    );
    let json = |line: &str| -> Value { serde_json::from_str(&out(line)).expect("JSON") };
    let targets = json("build --call=targets,format=json .");
    let lines = |line: u64| {
        let place = serde_json::json!({ "line": line });
        serde_json::json!({ "ranges": [{ "start": place, "end": place }] })
    };
    let release = serde_json::json!({
        "name": "release", "description": "the result", "base": "base",
        "platform": "$BUILDPLATFORM", "location": lines(16),
    });
    assert_eq!(targets["targets"][1], release);
    assert_eq!(targets["targets"][3]["default"], true);
    assert_eq!(targets["sources"].as_array().map(Vec::len), Some(1));
    let outline = json("build --call=outline,format=json --target base --build-arg SECOND=2 .");
    let second = serde_json::json!({"name": "SECOND", "value": "2", "location": lines(11)});
    assert_eq!(outline["args"][3], second);
    let tok = serde_json::json!({"name": "tok", "required": true, "location": lines(12)});
    assert_eq!(outline["secrets"][0], tok);
    session.check(
        "build --call=outline --target relase .",
        "exit code 1\n--- stderr\nerror: target stage `relase` could not be found\n\
         hint: did you mean `release`?\n",
    );
    session.check(
        "build --call=outlin .",
        "exit code 2\n--- stderr\nerror: unknown call `outlin`\nhint: did you mean `outline`?\n",
    );
}

#[test]
fn files_are_formatted() {
    let unformatted = "from scratch as a\n\n\n\ncopy  x   /x\n";
    let session = Session::with(&[("Dockerfile", unformatted), ("b/Dockerfile", "FROM scratch\n")]);
    session.check("fmt --check Dockerfile b/Dockerfile", "exit code 1\n--- stdout\nDockerfile\n");
    session.check(
        "fmt --diff",
        "exit code 1\n--- stdout\n--- Dockerfile\n+++ Dockerfile\n@@ -1,5 +1,3 @@\n\
         -from scratch as a\n-\n-\n+FROM scratch AS a\n \n-copy  x   /x\n+COPY x   /x\n",
    );
    assert_eq!(session.read("Dockerfile"), unformatted);
    session.check("fmt Dockerfile b/Dockerfile", "exit code 0\n");
    assert_eq!(session.read("Dockerfile"), "FROM scratch AS a\n\nCOPY x   /x\n");
    session.check("fmt --check Dockerfile b/Dockerfile", "exit code 0\n");
    let output = session.run_with("fmt -", b"from scratch");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "FROM scratch\n");
    session.write("Dockerfile", "FRM scratch\n");
    let said = session.command("fmt").output().expect("it runs");
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("did you mean `FROM`?"));
    assert_eq!(session.read("Dockerfile"), "FRM scratch\n");
}

#[test]
fn findings_are_mended() {
    let dockerfile = "FROM scratch as Base\nENV  a b\n# odd   comment \nCMD run me\nEXPOSE 1/TCP";
    let session = Session::with(&[("Dockerfile", dockerfile)]);
    session.check(
        "check --fix",
        "\
exit code 1
--- stdout
warning[JSONArgsRecommended]: `CMD` in shell form: signals reach the shell only
 --> Dockerfile:4:1
  |
4 | CMD run me
  | ^^^
  |
  = hint: write `CMD [\"run\", \"me\"]`

--- stderr
4 findings mended
1 warning
",
    );
    let mended = "FROM scratch AS base\nENV  a=b\n# odd   comment \nCMD run me\nEXPOSE 1/tcp";
    assert_eq!(session.read("Dockerfile"), mended);
    let output = session.run_with("check --fix -f - .", dockerfile.as_bytes());
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn contexts_are_looked_through() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nCOPY . /src\n"), (".env", "x")]);
    session.write(".git/HEAD", "x");
    session.write("web/node_modules/a/index.js", "x");
    let codes = |line: &str| -> Vec<String> {
        let output = session.command(line).output().expect("it runs");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let all = found["warnings"].as_array().expect("a list").iter();
        all.filter_map(|each| each["ruleName"].as_str().map(str::to_owned)).collect()
    };
    let all = ["dependencies-in-context", "git-in-context", "secret-in-context"];
    assert_eq!(codes("check --format json"), all);
    session.write(".dockerignore", "**/.git\n**/node_modules\n.env\n");
    assert!(codes("check --format json").is_empty());
}

#[test]
fn other_frontends_are_an_error() {
    let session =
        Session::with(&[("Dockerfile", "# syntax=docker/dockerfile:1.7-labs\nFROM scratch\n")]);
    session.stdout("build -q .");
    session.write("Dockerfile", "# syntax = example.com/my/frontend:2 x\nFROM scratch\n");
    let expected = "\
exit code 1
--- stderr
error: frontend `example.com/my/frontend:2` can not be used: only `docker/dockerfile` is built in
 --> Dockerfile:1:12
  |
1 | # syntax = example.com/my/frontend:2 x
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = hint: if it is an ordinary Dockerfile, leave the `syntax` out
";
    session.check("build -q .", expected);
    session.stdout("build -q --build-arg BUILDKIT_SYNTAX=docker/dockerfile .");
    session.write("Dockerfile", "FROM scratch\n");
    session.check(
        "build -q --build-arg BUILDKIT_SYNTAX=dockerfile .",
        "exit code 1\n--- stderr\nerror: frontend `dockerfile` of `BUILDKIT_SYNTAX` can not be \
         used: only `docker/dockerfile` is built in\nhint: write `docker/dockerfile:1`\n",
    );
    session.write("Dockerfile", "// syntax=example.com/other\nwhatever\n");
    session.check(
        "build -q .",
        "exit code 1\n--- stderr\nerror: this file is for the frontend `example.com/other`: only \
         `docker/dockerfile` is built in\nhint: name a Dockerfile with `-f`\n",
    );
}
