//! Every check, drawn under the source line it is about. Most cases are BuildKit's documented ones.

use std::collections::BTreeMap;

use strata_dockerfile::{
    BaseImage, CheckReport, CheckRequest, Diagnostic, Origin, Rule, check as run, parse,
};

/// Draws the lines with findings, and carets under what is wrong.
fn draw(source: &str, report: &CheckReport) -> String {
    let parse = parse(source.as_bytes());
    let mut drawn = String::new();
    for line in parse.tree.lines() {
        let here = |each: &&Diagnostic| line.span.range().contains(&each.span.start);
        let here: Vec<&Diagnostic> = report.findings.iter().filter(here).collect();
        if !here.is_empty() {
            drawn.push_str(&format!("{}\n", source[line.span.range()].trim_end()));
        }
        for finding in here {
            let indent = " ".repeat(finding.span.start - line.span.start);
            let carets = "^".repeat((finding.span.end - finding.span.start).max(1));
            let hint = finding.hint.as_deref().unwrap_or("-");
            drawn.push_str(&format!("{indent}{carets}\n{}: ", finding.code));
            drawn.push_str(&format!("{}\nhint: {hint}\n", finding.message));
        }
    }
    drawn
}

#[track_caller]
fn check_with(request: &CheckRequest<'_>, source: &str, expected: &str) {
    let report = run(&parse(source.as_bytes()), request);
    let drawn = draw(source, &report);
    assert_eq!(drawn, expected.strip_prefix('\n').unwrap_or(expected), "drawn:\n{drawn}");
}

#[track_caller]
fn check(source: &str, expected: &str) {
    check_with(&CheckRequest::new(&BTreeMap::new()), source, expected);
}

#[track_caller]
fn fine(source: &str) {
    check(source, "");
}

/// Lines and codes of what is found.
#[track_caller]
fn codes_with(request: &CheckRequest<'_>, source: &str, expected: &[(usize, &str)]) {
    let parse = parse(source.as_bytes());
    let report = run(&parse, request);
    let line = |each: &Diagnostic| (parse.tree.line_of(each.span.start), each.code);
    assert_eq!(report.findings.iter().map(line).collect::<Vec<_>>(), expected, "in:\n{source}");
}

#[track_caller]
fn codes(source: &str, expected: &[(usize, &str)]) {
    codes_with(&CheckRequest::new(&BTreeMap::new()), source, expected);
}

fn arguments(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

mod words {
    use super::*;

    #[test]
    fn stage_name_casing() {
        check(
            "FROM scratch AS BadStageName\n",
            r"
FROM scratch AS BadStageName
                ^^^^^^^^^^^^
StageNameCasing: the stage name `BadStageName` should be in lower case
hint: write `badstagename`, here and where the stage is used
",
        );
        fine("FROM scratch AS base3\n");
    }

    #[test]
    fn from_as_casing() {
        check(
            "FROM scratch as base2\n",
            r"
FROM scratch as base2
             ^^
FromAsCasing: `as` and `FROM` are not written in the same case
hint: write `AS`
",
        );
        check(
            "from scratch \\\n # as\n AS base\n",
            r"
 AS base
 ^^
FromAsCasing: `AS` and `from` are not written in the same case
hint: write `as`
",
        );
        check(
            "FROM scratch AS \\\n # was\n b\nFROM scratch as \\\n # was\n c\n",
            r"
FROM scratch as \
             ^^
FromAsCasing: `as` and `FROM` are not written in the same case
hint: write `AS`
",
        );
        codes("From scratch as a\nFROM scratch AS b\n", &[(1, "ConsistentInstructionCasing")]);
    }

    #[test]
    fn consistent_instruction_casing() {
        check(
            "FROM scratch\ncopy a /foo\nCOPY a /bar\n",
            r"
copy a /foo
^^^^
ConsistentInstructionCasing: `copy` should be in upper case, as most instructions are
hint: write `COPY`
",
        );
        check(
            "frOM scratch as base\nfrom scratch as base2\n",
            r"
frOM scratch as base
^^^^
ConsistentInstructionCasing: `frOM` should be in lower case, as most instructions are
hint: write `from`
",
        );
        codes("FROM scratch\ncopy a /a\ncopy b /b\n", &[(1, "ConsistentInstructionCasing")]);
        codes("from scratch\nCOPY a /a\nCOPY b /b\n", &[(1, "ConsistentInstructionCasing")]);
        fine("from scratch\ncopy a /foo\n");
        fine("FROM alpine\nRUN <<'EOT'\nenv\nEOT\n");
        fine("arg X=1\nFROM scratch\n");
    }

    #[test]
    fn maintainer_deprecated() {
        check(
            "FROM scratch\nMAINTAINER me@example.org\n",
            r#"
MAINTAINER me@example.org
^^^^^^^^^^
MaintainerDeprecated: `MAINTAINER` is deprecated in favour of a label
hint: write `LABEL org.opencontainers.image.authors="me@example.org"`
"#,
        );
        fine("FROM scratch\nLABEL org.opencontainers.image.authors=\"me@example.org\"\n");
    }

    #[test]
    fn no_empty_continuation_is_reported_once() {
        check(
            "FROM scratch\nCOPY a \\\n\n.\nCOPY a \\\n.\n",
            r"

^
NoEmptyContinuation: empty line inside an instruction
hint: remove the line, or write a `#` in it
",
        );
    }

    #[test]
    fn invalid_definition_description() {
        let head = "# check=experimental=InvalidDefinitionDescription\n";
        let good = "# foo is foo\nARG foo=bar\n\n# base is base\nFROM scratch AS base\n\
            # b is b\nARG a=1 b=2\n# bad\n#\nARG bit=bat\n# other\nCOPY a .\n# x\nFROM scratch\n";
        fine(&format!("{head}{good}"));
        check(
            &format!("{head}# bar is bar\nARG foo=bar\n# BasE is base\nFROM a AS base\n"),
            r"
# bar is bar
^^^^^^^^^^^^
InvalidDefinitionDescription: a comment above `ARG` describes it, but not this one
hint: write `# foo <description>`, or put a `#` between comment and instruction
# BasE is base
^^^^^^^^^^^^^^
InvalidDefinitionDescription: a comment above `FROM` describes it, but not this one
hint: write `# base <description>`, or put a `#` between comment and instruction
",
        );
        check(
            &format!("{head}FROM a\n# bad comment\nARG foo=baz bar=qux\n"),
            r"
# bad comment
^^^^^^^^^^^^^
InvalidDefinitionDescription: a comment above `ARG` describes it, but not this one
hint: write `# <name> <description>`, or put a `#` between comment and instruction
",
        );
        fine("# bar this is bar\nARG foo=bar\nFROM scratch\n");
        let skip = "# check=skip=JSONArgsRecommended\n";
        fine(&format!("{head}FROM a\n{skip}ARG foo\n"));
    }

    #[test]
    fn a_file_with_errors_is_checked_for_its_words() {
        let source = "FROM scratch AS BadName\nMAINTAINER me\nCMD x\nBADCMD\n";
        let expected =
            [(1, "StageNameCasing"), (2, "MaintainerDeprecated"), (4, "unknown-instruction")];
        codes(source, &expected);
    }
}

mod stages {
    use super::*;

    #[test]
    fn duplicate_stage_name() {
        check(
            "FROM scratch AS b\nFROM scratch AS B\n",
            r"
FROM scratch AS B
                ^
DuplicateStageName: the stage name `b` is taken by line 1
hint: give it a name of its own
                ^
StageNameCasing: the stage name `B` should be in lower case
hint: write `b`, here and where the stage is used
",
        );
        fine("FROM scratch AS b1\nFROM scratch AS b2\n");
    }

    #[test]
    fn reserved_stage_name() {
        check(
            "FROM scratch AS scratch\nFROM scratch AS context\n",
            r"
FROM scratch AS scratch
                ^^^^^^^
ReservedStageName: `scratch` is reserved: it means the empty image
hint: give the stage another name
FROM scratch AS context
                ^^^^^^^
ReservedStageName: `context` is reserved: it means the build context
hint: give the stage another name
",
        );
        fine("FROM scratch\nFROM scratch AS a\n");
    }

    #[test]
    fn undefined_arg_in_from() {
        check(
            "FROM --platform=$BULIDPLATFORM scratch\n",
            r"
FROM --platform=$BULIDPLATFORM scratch
                ^^^^^^^^^^^^^^
UndefinedArgInFrom: the argument `BULIDPLATFORM` is not declared above the first FROM
hint: did you mean `BUILDPLATFORM`?
",
        );
        check(
            "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
            r"
FROM busybox:${tag}${version} AS b
                   ^^^^^^^^^
UndefinedArgInFrom: the argument `version` is not declared above the first FROM
hint: write `ARG version=<default>` above the first `FROM`
",
        );
        fine("ARG base=scratch\nFROM $base\n");
        fine("FROM --platform=$BUILDPLATFORM scratch\n");
        fine("ARG DEBUG\nFROM scratch${DEBUG}\n");
        fine("ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n");
    }

    #[test]
    fn invalid_default_arg_in_from() {
        let given = arguments(&[("VERSION", "1"), ("IMAGE", "a"), ("SFX", "box:latest")]);
        let request = CheckRequest::new(&given);
        check_with(
            &request,
            "ARG VERSION\nFROM busybox:$VERSION\n",
            r"
FROM busybox:$VERSION
     ^^^^^^^^^^^^^^^^
InvalidDefaultArgInFrom: without build arguments, `busybox:$VERSION` is `busybox:`: no image name
hint: give the `ARG` a default that makes a name, such as `latest` for a tag
",
        );
        check_with(
            &request,
            "ARG IMAGE\nFROM $IMAGE\n",
            r"
FROM $IMAGE
     ^^^^^^
InvalidDefaultArgInFrom: without build arguments, `$IMAGE` is empty
hint: give the `ARG` a default that makes a name, such as `latest` for a tag
",
        );
        let code = "InvalidDefaultArgInFrom";
        codes_with(&request, "ARG SFX=\"box:\"\nFROM busy${SFX}\n", &[(2, code)]);
        codes_with(&request, "ARG VERSION=latest\nFROM busybox:${VERSION}\n", &[]);
        codes_with(&request, "ARG V=\"\"\nFROM busybox:stable${V}\n", &[]);
        codes_with(&request, "ARG V\nFROM busybox:stable${V}\n", &[]);
        let request = CheckRequest { is_image_name: &|name| name != "Odd", ..request };
        codes_with(&request, "ARG IMAGE=Odd\nFROM $IMAGE\n", &[(2, code)]);
        codes_with(&request, "FROM Odd\n", &[]);
    }

    #[test]
    fn redundant_target_platform() {
        check(
            "FROM --platform=$TARGETPLATFORM scratch\n",
            r"
FROM --platform=$TARGETPLATFORM scratch
                ^^^^^^^^^^^^^^^
RedundantTargetPlatform: `--platform=$TARGETPLATFORM` is what `FROM` does anyway
hint: remove the flag
",
        );
        codes("FROM --platform=${TARGETPLATFORM} a\n", &[(1, "RedundantTargetPlatform")]);
        fine("FROM --platform=$TARGETOS/$TARGETARCH scratch\n");
    }

    #[test]
    fn from_platform_flag_const_disallowed() {
        check(
            "FROM --platform=linux/amd64 scratch\n",
            r"
FROM --platform=linux/amd64 scratch
                ^^^^^^^^^^^
FromPlatformFlagConstDisallowed: the platform is always `linux/amd64`, whatever the build is for
hint: remove the flag, or use `$BUILDPLATFORM`, or let the stage's name say it
",
        );
        fine("FROM --platform=linux/amd64 scratch AS my_amd64_stage\n");
        fine("FROM --platform=linux/x86_64 scratch AS amd64\n");
        fine("FROM --platform=linux/amd64 scratch AS linux\n");
        codes("FROM --platform=arm64 a AS b\n", &[(1, "FromPlatformFlagConstDisallowed")]);
    }

    #[test]
    fn invalid_base_image_platform() {
        let given = BTreeMap::new();
        let image = |_: &str| Some(BaseImage { platform: "linux/arm64".into(), ..image_env() });
        let request = CheckRequest { base_image: &image, ..CheckRequest::new(&given) };
        check_with(
            &request,
            "FROM alpine\n",
            r"
FROM alpine
     ^^^^^^
InvalidBaseImagePlatform: `alpine` is for `linux/arm64`, the build for `linux/amd64`
hint: get the image for `linux/amd64`, or build with `--platform`
",
        );
        codes_with(&request, "FROM --platform=linux/aarch64 alpine AS arm64\n", &[]);
        codes_with(&CheckRequest { platform: "linux/arm64", ..request }, "FROM alpine\n", &[]);
    }

    #[test]
    fn only_stages_that_are_needed_when_so_asked() {
        let source = "FROM scratch AS a\nENV x y\nFROM scratch AS b\nENV x y\nFROM scratch AS c\n\
            COPY --from=b /x /y\n";
        let code = "LegacyKeyValueFormat";
        codes(source, &[(2, code), (4, code)]);
        let given = BTreeMap::new();
        let request = CheckRequest { all_stages: false, ..CheckRequest::new(&given) };
        codes_with(&request, source, &[(4, code)]);
        codes_with(&CheckRequest { target: Some("A"), ..request }, source, &[(2, code)]);
        codes_with(&CheckRequest { target: Some("1"), ..request }, source, &[(4, code)]);
    }
}

fn image_env() -> BaseImage {
    let env = [("NODE_VERSION", "18")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    BaseImage { platform: "linux/amd64".to_owned(), env, has_shell: false }
}

mod instructions {
    use super::*;

    #[test]
    fn json_args_recommended() {
        check(
            "FROM scratch\nCMD my command\n",
            r#"
CMD my command
^^^
JSONArgsRecommended: `CMD` in shell form: signals reach the shell only
hint: write `CMD ["my", "command"]`
"#,
        );
        check(
            "FROM scratch\nENTRYPOINT exec top -b $X\n",
            r"
ENTRYPOINT exec top -b $X
^^^^^^^^^^
JSONArgsRecommended: `ENTRYPOINT` in shell form: signals reach the shell only
hint: write a JSON array
",
        );
        fine("FROM scratch\nSHELL [\"/usr/bin/customshell\"]\nCMD mycommand\n");
        fine("FROM scratch AS base\nSHELL [\"/custom\"]\nFROM base\nENTRYPOINT mycommand\n");
        fine("FROM scratch\nCMD [\"mycommand\"]\n");
    }

    #[test]
    fn multiple_instructions_disallowed() {
        check(
            "FROM scratch\nCMD [\"a\"]\nCOPY a /\nCMD [\"b\"]\n",
            r#"
CMD ["a"]
^^^
MultipleInstructionsDisallowed: this `CMD` has no effect: the one in line 4 replaces it
hint: remove one of them
"#,
        );
        let code = "MultipleInstructionsDisallowed";
        let source = "FROM scratch\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK CMD a\n\
            HEALTHCHECK NONE\n";
        codes(source, &[(2, code), (4, code)]);
        fine("FROM scratch AS a\nCMD [\"a\"]\nFROM a AS b\nCMD [\"b\"]\n");
    }

    #[test]
    fn legacy_key_value_format() {
        check(
            "FROM scratch\nENV testkey value\nLABEL key two words\n",
            r#"
ENV testkey value
    ^^^^^^^^^^^^^
LegacyKeyValueFormat: `ENV key value` is the old form of `ENV key=value`
hint: write `ENV testkey=value`
LABEL key two words
      ^^^^^^^^^^^^^
LegacyKeyValueFormat: `LABEL key value` is the old form of `LABEL key=value`
hint: write `LABEL key="two words"`
"#,
        );
        fine("FROM scratch\nENV testkey=value\nLABEL key=value\n");
    }

    #[test]
    fn secrets_used_in_arg_or_env() {
        check(
            "FROM scratch\nARG SECRET_PASSPHRASE\nENV password=bar secret=baz\n",
            r"
ARG SECRET_PASSPHRASE
    ^^^^^^^^^^^^^^^^^
SecretsUsedInArgOrEnv: the value of `SECRET_PASSPHRASE` can be read in the image's history
hint: use `RUN --mount=type=secret,id=<name>` where the value is needed
ENV password=bar secret=baz
    ^^^^^^^^
SecretsUsedInArgOrEnv: the value of `password` can be read in the image
hint: use `RUN --mount=type=secret,id=<name>` where the value is needed
                 ^^^^^^
SecretsUsedInArgOrEnv: the value of `secret` can be read in the image
hint: use `RUN --mount=type=secret,id=<name>` where the value is needed
",
        );
        fine("ARG TOKEN\nFROM scratch\nENV PUBLIC_KEY=x sunflower=foo\nARG public_token\n");
    }

    #[test]
    fn expose() {
        check(
            "FROM scratch\nEXPOSE 80/TcP 81/tcp 82\n",
            r"
EXPOSE 80/TcP 81/tcp 82
       ^^^^^^
ExposeProtoCasing: the protocol `TcP` should be in lower case
hint: write `80/tcp`
",
        );
        check(
            "FROM scratch\nEXPOSE 127.0.0.1:80:80 80:80\n",
            r"
EXPOSE 127.0.0.1:80:80 80:80
       ^^^^^^^^^^^^^^^
ExposeInvalidFormat: `EXPOSE` takes no address and no port of the host: `127.0.0.1:80`
hint: write `EXPOSE 80`
                       ^^^^^
ExposeInvalidFormat: `EXPOSE` takes no address and no port of the host: `80`
hint: write `EXPOSE 80`
",
        );
        codes("FROM scratch\nARG P=90/TCP\nEXPOSE $P\n", &[(3, "ExposeProtoCasing")]);
    }

    #[test]
    fn workdir_relative_path() {
        check(
            "FROM scratch\nWORKDIR app/\n",
            r"
WORKDIR app/
        ^^^^
WorkdirRelativePath: `app/` is relative to the base image's working directory
hint: write an absolute path: `WORKDIR /app/`
",
        );
        fine("FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/\n");
        fine("FROM scratch\nARG D=/x\nWORKDIR $D\nWORKDIR y\n");
        fine("FROM alpine\nWORKDIR $HOME/x\n");
    }

    #[test]
    fn copy_ignored_file() {
        let given = BTreeMap::new();
        let ignored = |path: &str| path == "Dockerfile";
        let request = CheckRequest { is_ignored: Some(&ignored), ..CheckRequest::new(&given) };
        let body = "FROM scratch AS base\nCOPY ./Dockerfile a .\nADD Dockerfile /windy\n\
            FROM base\nCOPY --from=base Dockerfile /\n";
        codes_with(&request, body, &[]);
        let source = format!("# check=skip=all;experimental=CopyIgnoredFile\n{body}");
        check_with(
            &request,
            &source,
            r"
COPY ./Dockerfile a .
     ^^^^^^^^^^^^
CopyIgnoredFile: `./Dockerfile` is left out of the context by the ignore file
hint: take it out of the ignore file, or do not copy it
ADD Dockerfile /windy
    ^^^^^^^^^^
CopyIgnoredFile: `Dockerfile` is left out of the context by the ignore file
hint: take it out of the ignore file, or do not copy it
",
        );
    }

    #[test]
    fn undefined_var() {
        check(
            "FROM scratch\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n",
            r"
COPY $foo .
     ^^^^
UndefinedVar: the variable `foo` is not set here, so it is empty
hint: declare it above: `ARG foo=<default>`
",
        );
        check(
            "FROM alpine\nARG DIR_ASSETS=assets/\nCOPY a/${DIR_ASSET} .\n",
            r"
COPY a/${DIR_ASSET} .
       ^^^^^^^^^^^
UndefinedVar: the variable `DIR_ASSET` is not set here, so it is empty
hint: did you mean `$DIR_ASSETS`?
",
        );
        check(
            "FROM alpine\nENV PATH=$PAHT:/tmp/bin\n",
            r"
ENV PATH=$PAHT:/tmp/bin
         ^^^^^
UndefinedVar: the variable `PAHT` is not set here, so it is empty
hint: did you mean `$PATH`?
",
        );
        check(
            "FROM scratch\nCOPY <<A <<'B' /x/\n$gone\nA\n$other\nB\n",
            r"
$gone
^^^^^
UndefinedVar: the variable `gone` is not set here, so it is empty
hint: declare it above: `ARG gone=<default>`
",
        );
        fine("FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n");
        codes("FROM scratch\nARG a=$b c=${d}\nARG e=1 f=$e\n", &[(2, "UndefinedVar"); 2]);
        fine("FROM alpine AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n");
        fine("FROM alpine\nRUN echo $PATH $foo\nCMD [\"$foo\"]\nONBUILD COPY $foo /\n");
        codes("FROM scratch\nENV A=1 B=$A\nLABEL x=$A\n", &[(2, "UndefinedVar")]);
    }

    #[test]
    fn variables_of_base_images_are_not_undefined() {
        fine("FROM golang\nCOPY . ${GOPATH}/src/\nWORKDIR $GOPATH/src\n");
        let source = "FROM node\nENV A=$NODE_VERSION B=$YARN_VERSION\n";
        fine(source);
        let given = BTreeMap::new();
        let image = |_: &str| Some(image_env());
        let request = CheckRequest { base_image: &image, ..CheckRequest::new(&given) };
        check_with(
            &request,
            source,
            r"
ENV A=$NODE_VERSION B=$YARN_VERSION
                      ^^^^^^^^^^^^^
UndefinedVar: the variable `YARN_VERSION` is not set here, so it is empty
hint: did you mean `$NODE_VERSION`?
",
        );
    }
}

mod cache {
    use super::*;

    #[test]
    fn copy_all_before_install() {
        check(
            "FROM node\nWORKDIR /app\nCOPY . .\nRUN npm ci && npm test\n",
            r"
COPY . .
     ^
copy-all-before-install: every change of a file makes `npm ci` in line 4 run again
hint: copy only `package.json` and `package-lock.json` above it, and everything else below it
",
        );
        check(
            "FROM python\nADD ./ /app/\nRUN pip install -r requirements.txt\n",
            r"
ADD ./ /app/
    ^^
copy-all-before-install: every change of a file makes `pip install` in line 3 run again
hint: copy only `requirements.txt` above it, and everything else below it
",
        );
        let code = "copy-all-before-install";
        let installs = [
            "yarn --frozen-lockfile",
            "set -e; cd x && bundle install",
            "pnpm i",
            "cargo build --release",
            "go mod download",
            "composer install",
            "python3 -m pip install -r requirements.txt",
        ];
        for install in installs {
            codes(&format!("FROM a\nCOPY . .\nRUN {install}\n"), &[(2, code)]);
        }
        fine("FROM node\nCOPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm ci --offline\n");
        fine("FROM node AS a\nCOPY . .\nFROM node\nRUN npm ci\n");
        fine("FROM node\nCOPY --from=x . .\nCOPY src .\nRUN npm ci\nCOPY . .\n");
        fine("FROM node\nCOPY . .\nRUN --mount=type=cache,target=/c npm ci\n");
        fine("FROM node\nCOPY . .\nRUN npm run build && pip install -e . && npm i -g x\n");
    }

    #[test]
    fn apt_get_update_alone() {
        check(
            "FROM debian\nRUN apt-get -qq update\nRUN apt-get install -y a\n",
            r"
RUN apt-get -qq update
    ^^^^^^^^^^^^^^^^^^
apt-get-update-alone: the package list is cached: what is installed from it later may be gone
hint: write `apt-get update && apt-get install …` as one `RUN`
",
        );
        fine("FROM debian\nRUN apt-get update && apt-get install -y a && rm -r /var/lib/apt\n");
        fine("FROM debian\nRUN apt-get update && ./install-all\n");
    }

    #[test]
    fn changing_arg_too_early() {
        check(
            "FROM a\nARG GIT_COMMIT\nRUN x\nRUN y\nLABEL rev=$GIT_COMMIT\n",
            r"
ARG GIT_COMMIT
    ^^^^^^^^^^
changing-arg-too-early: a new value of `GIT_COMMIT` makes the `RUN` in line 3 and 1 more run again
hint: move it down to line 5, which is the first to use it
",
        );
        check(
            "FROM a\nARG BUILD_DATE=1\nRUN x\n",
            r"
ARG BUILD_DATE=1
    ^^^^^^^^^^
changing-arg-too-early: a new value of `BUILD_DATE` makes the `RUN` in line 3 run again
hint: nothing in this stage uses it: remove it, or move it to the end
",
        );
        fine("FROM a\nRUN x\nARG GIT_COMMIT\nRUN echo ${GIT_COMMIT} > v\nRUN y\n");
        fine("FROM a\nARG CACHE_DATE\nRUN x\n");
        fine("ARG GIT_COMMIT\nFROM a\nARG NODE_VERSION\nRUN x\n");
    }
}

mod options {
    use super::*;

    const BODY: &str = "FROM scratch as base\ncopy Dockerfile .\n";
    const AS: (usize, &str) = (2, "FromAsCasing");

    #[track_caller]
    fn with(directive: &str, argument: Option<&str>, expected: &[(usize, &str)], fails: bool) {
        let given: Vec<_> =
            argument.map(|text| ("BUILDKIT_DOCKERFILE_CHECK", text)).into_iter().collect();
        let given = arguments(&given);
        let request = CheckRequest::new(&given);
        let source = format!("{directive}\n{BODY}");
        codes_with(&request, &source, expected);
        let report = run(&parse(source.as_bytes()), &request);
        assert_eq!(!report.violated().is_empty(), fails, "{:?}", report.violated());
    }

    #[test]
    fn directives() {
        with("#check=skip=all", None, &[], false);
        with("#check=skip=all;error=true", None, &[], false);
        with("#check=skip=ConsistentInstructionCasing,FromAsCasing", None, &[], false);
        with("#check=skip=ConsistentInstructionCasing", None, &[AS], false);
        with("#check=skip=ConsistentInstructionCasing;error=true", None, &[AS], true);
    }

    #[test]
    fn a_build_argument_stands_in_for_the_directive() {
        let argument = "skip=ConsistentInstructionCasing;error=true";
        with("#check=skip=all", Some(argument), &[AS], true);
        with("#check=error=true", Some("skip=all"), &[], false);
    }

    #[test]
    fn what_is_no_option() {
        check(
            "# check=skip=all;foo=bar\nFROM scratch AS a\n",
            r"
# check=skip=all;foo=bar
        ^^^^^^^^^^^^^^^^
invalid-check-option: `foo=bar` is not a check option
hint: write `skip=RULE,RULE`, `experimental=RULE,RULE` or `error=true`, with `;` between them
",
        );
    }

    #[test]
    fn comments_above_an_instruction_skip_too() {
        let code = "LegacyKeyValueFormat";
        let source =
            "FROM scratch\n# why not\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV a b\n";
        codes(source, &[(5, code)]);
        codes(&source.replace("Legacy", "Other"), &[(4, code), (5, code)]);
        fine("FROM a\n# check=skip=all\nCMD exec \\\n\n x\n");
    }

    #[test]
    fn our_own_rules_stop_no_build() {
        let given = arguments(&[("BUILDKIT_DOCKERFILE_CHECK", "error=true")]);
        let request = CheckRequest::new(&given);
        let source = "FROM a\nARG GIT_SHA\nRUN x\n";
        codes_with(&request, source, &[(2, "changing-arg-too-early")]);
        assert!(run(&parse(source.as_bytes()), &request).violated().is_empty());
    }
}

#[test]
fn every_rule_has_a_page() {
    let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks");
    for rule in Rule::ALL {
        let page = std::fs::read_to_string(pages.join(format!("{}.md", rule.name)));
        let page = page.expect(rule.name);
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.name);
        assert!(page.contains(&format!("# check=skip={}", rule.name)) || rule.experimental);
        let is_ours = rule.name.starts_with(|c: char| c.is_ascii_lowercase());
        assert_eq!(is_ours, rule.origin == Origin::Strata);
        assert!(!rule.summary.ends_with('.'));
    }
    let listed = std::fs::read_dir(&pages).expect("the pages").count();
    assert_eq!(listed, Rule::ALL.len() + 1, "and one page lists them");
}
