//! Dockerfiles in, plans out. What BuildKit's frontend does is the measure; the texts of the
//! history are what `docker history` shows of an image that it built.
#![expect(clippy::panic, reason = "a test helper says what it got instead")]

use strata_oci::{Digest, ImageConfig, RuntimeConfig};
use strata_plan::{Chmod, ImageNeed, Op, Plan, PlanError, Request, ResolvedImage, Source, plan};

/// Every image exists: Debian with a PATH, a user, and an ONBUILD where the name says so.
fn image(need: &ImageNeed) -> Option<ResolvedImage> {
    let name = need.name.to_string();
    let strings = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
    let mut config = ImageConfig {
        config: RuntimeConfig {
            env: strings(&["PATH=/usr/bin:/bin", "LANG=C"]),
            cmd: strings(&["bash"]),
            ..RuntimeConfig::default()
        },
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.push(Digest::of(name.as_bytes()));
    if name.starts_with("onbuild") {
        config.config.on_build = strings(&["COPY . /src", "RUN make"]);
    }
    Some(ResolvedImage { digest: Digest::of(name.as_bytes()), config })
}

fn plan_of(dockerfile: &str, set: impl FnOnce(&mut Request<'_>)) -> Result<Plan, PlanError> {
    let parse = strata_dockerfile::parse(dockerfile.as_bytes());
    assert!(!parse.has_errors(), "{:?}", parse.diagnostics);
    let mut request = Request::new(&parse.tree);
    set(&mut request);
    plan(&request, &image)
}

fn planned(dockerfile: &str) -> Plan {
    plan_of(dockerfile, |_| {}).expect("a plan")
}

fn history(plan: &Plan) -> Vec<String> {
    let lines = plan.image.history.iter();
    lines
        .map(|entry| {
            let mark = if entry.step.is_some() { '+' } else { '-' };
            format!("{mark} {}", entry.line.created_by.clone().unwrap_or_default())
        })
        .collect()
}

fn message(result: Result<Plan, PlanError>) -> String {
    match result {
        Err(PlanError::Wrong(diagnostics)) => diagnostics[0].message.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_history_reads_as_buildkits() {
    let plan = planned(
        "FROM debian\nARG V=1\nENV A=b C=\"d e\"\nWORKDIR /app\nCOPY --chmod=755 a b ./\n\
         RUN echo $V\nEXPOSE 80 53/udp\nVOLUME /data\nUSER me\nCMD [\"x\", \"y\"]\n\
         HEALTHCHECK --interval=5m --timeout=3s CMD curl -f http://x\nSTOPSIGNAL SIGINT\n\
         SHELL [\"/bin/bash\", \"-c\"]\nLABEL k=v\nRUN [\"a\", \"b\"]\nENTRYPOINT run me\n",
    );
    let expected = [
        "- ARG V=1",
        "- ENV A=b C=d e",
        "+ WORKDIR /app",
        "+ COPY --chmod=755 a b ./ # buildkit",
        "+ RUN |1 V=1 /bin/sh -c echo $V # buildkit",
        "- EXPOSE [53/udp 80/tcp]",
        "- VOLUME [/data]",
        "- USER me",
        r#"- CMD ["x" "y"]"#,
        r#"- HEALTHCHECK &{["CMD-SHELL" "curl -f http://x"] "5m0s" "3s" "0s" "0s" '\x00'}"#,
        "- STOPSIGNAL SIGINT",
        "- SHELL [/bin/bash -c]",
        "- LABEL k=v",
        "+ RUN |1 V=1 a b # buildkit",
        r#"- ENTRYPOINT ["/bin/bash" "-c" "run me"]"#,
    ];
    assert_eq!(history(&plan), expected);
}

#[test]
fn the_tutorials_second_application_makes_three_layers() {
    let plan = planned(
        "FROM ubuntu:22.04\n\
         RUN apt-get update && apt-get install -y python3 python3-pip\n\
         RUN pip install flask==3.0.*\nCOPY hello.py /\nENV FLASK_APP=hello\nEXPOSE 8000\n\
         CMD [\"flask\", \"run\", \"--host\", \"0.0.0.0\", \"--port\", \"8000\"]\n",
    );
    let layers = plan.image.history.iter().filter(|entry| entry.step.is_some()).count();
    assert_eq!((layers, plan.image.history.len()), (3, 6));
    assert_eq!(plan.steps.len(), 4);
}

#[test]
fn stages_that_nobody_needs_are_not_planned() {
    let file = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM one\nCOPY --from=0 /x /y\n\
                FROM c AS last\nCOPY --from=one /x /x\n";
    let texts = |plan: &Plan| plan.steps.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
    let all = planned(file);
    assert_eq!(texts(&all), ["FROM c AS last", "FROM a AS one", "RUN 1", "COPY --from=one /x /x"]);
    let two = plan_of(file, |request| request.target = Some("TWO".to_owned())).expect("a plan");
    assert_eq!(texts(&two), ["FROM b AS two", "RUN 2"]);
    let by_number = plan_of(file, |request| request.target = Some("2".to_owned()));
    assert_eq!(texts(&by_number.expect("a plan")).len(), 3);
    let unknown = plan_of(file, |request| request.target = Some("tow".to_owned()));
    assert_eq!(message(unknown), "target stage `tow` could not be found");
}

#[test]
fn args_have_the_scope_that_docker_gives_them() {
    let file = "ARG V=1\nFROM debian:$V\nARG V\nARG W=$V-w\nENV E=$W\nENV W=env\nRUN x\n";
    let run = |plan: &Plan| match &plan.steps.last().expect("a step").op {
        Op::Run(run) => run.env.clone(),
        other => panic!("{other:?}"),
    };
    let env = run(&planned(file));
    let get = |name: &str| env.get(name).map(String::as_str);
    assert_eq!((get("V"), get("W"), get("E")), (Some("1"), Some("env"), Some("1-w")));
    let given = plan_of(file, |request| {
        request.build_args.insert("V".to_owned(), "2".to_owned());
    });
    let env = run(&given.expect("a plan"));
    assert_eq!(env.get("E").map(String::as_str), Some("2-w"));
    // A global ARG is not seen in a stage that does not declare it.
    let undeclared = planned("ARG V=1\nFROM debian\nRUN x\n");
    assert!(!run(&undeclared).contains_key("V"));
}

#[test]
fn unknown_images_are_asked_for_all_at_once() {
    let file = "FROM a AS x\nFROM b\nCOPY --from=x / /\nCOPY --from=c:1 / /\n";
    let parse = strata_dockerfile::parse(file.as_bytes());
    let Err(PlanError::Missing(needs)) = plan(&Request::new(&parse.tree), &|_| None) else {
        panic!("nothing is missing")
    };
    let names: Vec<String> = needs.iter().map(|need| need.name.to_string()).collect();
    assert_eq!(names, ["a:latest", "b:latest", "c:1"]);
}

#[test]
fn onbuild_fires_once_in_the_child() {
    let plan = planned("FROM onbuild\nRUN last\n");
    let expected = [
        "+ COPY . /src # buildkit",
        "+ RUN /bin/sh -c make # buildkit",
        "+ RUN /bin/sh -c last # buildkit",
    ];
    assert_eq!(history(&plan), expected);
    assert_eq!(plan.image.config.on_build, None);
    let staged = planned("FROM a AS x\nONBUILD RUN later\nFROM x\nRUN now\n");
    let expected = ["+ RUN /bin/sh -c later # buildkit", "+ RUN /bin/sh -c now # buildkit"];
    assert_eq!(history(&staged), expected);
}

#[test]
fn an_entrypoint_resets_only_the_bases_cmd() {
    assert_eq!(planned("FROM a\nENTRYPOINT [\"e\"]\n").image.config.cmd, None);
    let own = planned("FROM a\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n");
    assert_eq!(own.image.config.cmd, Some(vec!["c".to_owned()]));
    let staged = planned("FROM a AS x\nCMD [\"c\"]\nFROM x\nENTRYPOINT [\"e\"]\n");
    assert_eq!(staged.image.config.cmd, None);
}

#[test]
fn copies_say_what_from_where_to_where() {
    let copy = |line: &str| {
        let plan = planned(&format!("FROM a AS other\nFROM b\nWORKDIR /w\n{line}\n"));
        match plan.steps.last().map(|step| step.op.clone()) {
            Some(Op::Copy(copy)) => copy,
            other => panic!("{other:?}"),
        }
    };
    let check = |line: &str, patterns: &[&str], dest: &str| {
        let copy = copy(line);
        let found: Vec<&str> = copy.sources.iter().map(|s| &*s.pattern).collect();
        assert_eq!((&found[..], &*copy.dest), (patterns, dest), "{line}");
    };
    check("COPY . .", &[""], "/w/");
    check("COPY a b/", &["a"], "/w/b/");
    check("COPY /a/../b/*.js x", &["b/*.js"], "/w/x");
    check("COPY ../../a /y/../z", &["a"], "/z");
    check("COPY [\"a b\", \"c\", \"d/\"]", &["a b", "c"], "/w/d/");
    assert_eq!(copy("COPY --from=other / /").from, Source::Step(Some(2)));
    assert_eq!(copy("COPY --chmod=u+x a b").chmod, Some(Chmod::Symbolic("u+x".to_owned())));
    assert_eq!(copy("COPY --chown=1:2 a b").numeric_owner(), Some((1, 2)));
    assert_eq!(copy("COPY --chown=7 a b").numeric_owner(), Some((7, 7)));
    assert_eq!(copy("COPY --chown=me a b").numeric_owner(), None);
    assert!(copy("ADD a.tar.gz /").unpack);
    let inline = copy("ENV N=1\nCOPY <<a.txt <<\"b\" /d/\n$N\na.txt\n$N\nb");
    let files: Vec<(&str, &str)> =
        inline.inline.iter().map(|file| (&*file.name, &*file.content)).collect();
    assert_eq!(files, [("a.txt", "1\n"), ("b", "$N\n")]);
}

#[test]
fn what_is_wrong_is_said() {
    let check = |file: &str, expected: &str| {
        assert_eq!(message(plan_of(file, |_| {})), expected, "{file}");
    };
    check("ARG A\nFROM $A\n", "`$A` is blank: no such image");
    check("FROM a\nCOPY --chmod=9 a b\n", "`--chmod=9` is not a mode");
    check(
        "FROM a AS x\nONBUILD COPY --chmod=9 a b\nFROM x\n",
        "in `ONBUILD COPY --chmod=9 a b` of stage `x`, line 2: `--chmod=9` is not a mode",
    );
    check(
        "FROM a AS x\nONBUILD FOO b\nFROM x\n",
        "in `ONBUILD FOO b` of stage `x`, line 2: unknown instruction: `FOO`",
    );
    check("FROM a\nEXPOSE x\n", "`x` is not a port: a number from 1 to 65535 is expected");
    check("FROM a\nSTOPSIGNAL SIGNO\n", "`SIGNO` is not a signal");
    let later = "FROM a\nCOPY --from=later / /\nFROM b AS later\n";
    let later = plan_of(later, |request| request.target = Some("0".to_owned()));
    assert_eq!(message(later), "stage `later` must be defined before it is copied from");
}

#[test]
fn labels_of_the_caller_and_metadata_enter_no_key() {
    let facts = |file: &str| match &planned(file).steps.last().expect("a step").op {
        Op::Run(run) => run.facts(),
        other => panic!("{other:?}"),
    };
    let plain = facts("FROM a\nRUN x\n");
    let metadata = "LABEL a=b\nEXPOSE 1\nCMD y\nENTRYPOINT z\nSTOPSIGNAL 9\nVOLUME /v\n\
                    MAINTAINER me\nHEALTHCHECK NONE\n";
    assert_eq!(facts(&format!("FROM a\n{metadata}RUN x\n")), plain);
    for visible in ["ENV A=b", "ARG A=b", "WORKDIR /w", "USER u", "SHELL [\"s\", \"-c\"]"] {
        assert_ne!(facts(&format!("FROM a\n{visible}\nRUN x\n")), plain, "{visible}");
    }
}

#[test]
fn build_arguments_that_are_options() {
    let facts = |arguments: &[(&str, &str)]| {
        let plan = plan_of("FROM a\nRUN --mount=type=cache,target=/c x\n", |request| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            request.build_args = arguments.iter().map(owned).collect();
        });
        match &plan.expect("a plan").steps.last().expect("a step").op {
            Op::Run(run) => (run.facts(), run.hostname.clone()),
            other => panic!("{other:?}"),
        }
    };
    let plain = facts(&[]);
    for nothing in [
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_SBOM_SCAN_CONTEXT",
        "BUILDKIT_SBOM_SCAN_STAGE",
    ] {
        assert_eq!(facts(&[(nothing, "1")]), plain, "{nothing}");
    }
    assert_ne!(facts(&[("BUILDKIT_CACHE_MOUNT_NS", "mine")]).0, plain.0);
    let named = facts(&[("BUILDKIT_SANDBOX_HOSTNAME", "box")]);
    assert_eq!(named.1.as_deref(), Some("box"));
    assert_ne!(named.0, plain.0);
}

#[test]
fn many_stages_on_top_of_each_other_take_no_stack() {
    let mut based = "FROM scratch AS s0\n".to_owned();
    let mut copied = based.clone();
    for stage in 1..3_000 {
        based.push_str(&format!("FROM s{} AS s{stage}\nLABEL a={stage}\n", stage - 1));
        copied.push_str(&format!("FROM scratch AS s{stage}\nCOPY --from=s{} a b\n", stage - 1));
    }
    let steps = |text: &str| planned(text).steps.len();
    // A thread's stack, as the program's other threads have it.
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let both = small.spawn(move || (steps(&based), steps(&copied))).expect("a thread");
    assert_eq!(both.join().expect("no overflow"), (0, 2_999));
}

/// The plan's part of the table in docs/cache-keys.md.
#[test]
fn a_copys_flags_count_where_the_layer_would_be_another_one() {
    let facts = |line: &str| match &planned(&format!("FROM a\n{line}\n")).steps[1].op {
        Op::Copy(copy) => copy.facts(),
        other => panic!("{other:?}"),
    };
    let plain = facts("COPY a /x/");
    // Which files, and what the flags make of them, is in the selection.
    for same in [
        "COPY b /x/",
        "ADD a.txt /x/",
        "COPY --exclude=c a /x/",
        "COPY --chmod=755 a /x/",
        "COPY --chmod=0775 a /x/",
        "COPY --chmod=u+x a /x/",
        "COPY --chown=0:0 a /x/",
        "COPY --chown=0 a /x/",
    ] {
        let but_unpacking: Vec<_> =
            facts(same).into_iter().filter(|fact| fact.name != "unpack").collect();
        if same.starts_with("ADD") {
            assert_eq!(but_unpacking, plain, "{same}");
        } else {
            assert_eq!(facts(same), plain, "{same}");
        }
    }
    for other in [
        "COPY a /y/",
        "COPY a /x",
        "COPY --chmod=700 a /x/",
        "COPY --chmod=644 a /x/",
        "COPY --chown=1 a /x/",
        "COPY --chown=0:1 a /x/",
        "COPY --chown=root a /x/",
        "COPY --link a /x/",
    ] {
        assert_ne!(facts(other), plain, "{other}");
    }
}

#[test]
fn the_order_of_args_and_envs_and_what_they_do_not_change_costs_nothing() {
    let facts = |file: &str| match &planned(file).steps.last().expect("a step").op {
        Op::Run(run) => {
            let mut facts = run.facts();
            facts.sort_by(|a, b| a.name.cmp(&b.name));
            facts
        }
        other => panic!("{other:?}"),
    };
    let one = facts("FROM a\nARG A=1\nARG B=2\nENV C=3\nENV D=4\nRUN x\n");
    for same in [
        "FROM a\nARG B=2\nARG A=1\nENV D=4 C=3\nRUN x\n",
        "FROM a\nENV C=3\nARG A=1\nENV D=4\nARG B=2\nRUN x\n",
        "FROM a AS other\nARG B=2\nARG A=1\nENV C=3\nENV C=3 D=4\nrun x\n",
    ] {
        assert_eq!(facts(same), one, "{same}");
    }
    assert_ne!(facts("FROM a\nARG A=2\nARG B=2\nENV C=3\nENV D=4\nRUN x\n"), one);
}
