//! Secrets and ssh agents: they reach the command that they are for, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use crate::world::{Said, World};

/// Values that are nowhere by chance.
pub(crate) fn value(what: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    format!("{what}-{}-{}", std::process::id(), now.as_nanos())
}

/// Where one of the values is to be found: in files below a folder, and in other processes'
/// command lines and environments.
pub(crate) fn places(folder: &Path, values: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let holds = |bytes: &[u8]| {
        values.iter().any(|value| bytes.windows(value.len()).any(|part| part == value.as_bytes()))
    };
    let mut left = vec![folder.to_owned()];
    let mut files = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                left.push(path);
            } else if metadata.is_file() {
                files += 1;
                if std::fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    assert!(files > 10, "the search has seen the store");
    let own = std::process::id().to_string();
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == own {
            continue;
        }
        for file in ["cmdline", "environ"] {
            if std::fs::read(process.path().join(file)).is_ok_and(|bytes| holds(&bytes)) {
                found.push(format!("/proc/{name}/{file}"));
            }
        }
    }
    found
}

/// The secrets' files lie beside the folder that is searched.
pub(crate) fn lend(world: &World, file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), file).expect("a secret");
    assert!(!folder.path().starts_with(world.path("")));
    folder
}

const EVERY_FORM: &str = "FROM case-base\n\
    RUN --mount=type=secret,id=file cat /run/secrets/file; wc -c < /run/secrets/file > /size\n\
    RUN --mount=type=secret,id=file,target=/etc/token,mode=0440,uid=7,gid=8,required=true \
        cat /etc/token >&2; stat -c '%a %u %g' /etc/token > /stat\n\
    RUN --mount=type=secret,id=file stat -c '%a %u %g' /run/secrets/file >> /stat\n\
    RUN --mount=type=secret,id=env,env=TOKEN,required \
        echo \"it is $TOKEN.\"; echo ${#TOKEN} >> /size; ls -d /run >> /stat 2>&1; true\n\
    RUN --mount=type=secret,id=env,env=TOKEN,target=token/there \
        test \"$(cat /token/there)\" = \"$TOKEN\" && echo both >> /stat\n\
    RUN --mount=type=secret,id=file head -c 5 /run/secrets/file; sleep 0.3; \
        tail -c +6 /run/secrets/file\n\
    RUN --mount=type=secret,id=other ls /run/secrets/other 2>&1; true\n\
    RUN --mount=type=secret,id=file mkdir /etc/copy && ln -s /run/secrets/file /etc/copy/link\n\
    CMD [\"cat\", \"/size\", \"/stat\"]\n";

#[test]
fn a_secret_is_nowhere_after_a_build_that_used_it_in_every_form() {
    let world = World::with_base();
    let (file, env) = (value("file"), value("env"));
    let folder = lend(&world, &format!("{file}\n"));
    let source = format!("id=file,src={}", folder.path().join("file").display());
    for runtime in ["libcontainer", "/usr/bin/runc"] {
        world.write("app/Dockerfile", EVERY_FORM);
        let arguments = [
            "build",
            "--oci-runtime",
            runtime,
            "--no-cache",
            "--progress",
            "plain",
            "--secret",
            &source,
            "--secret",
            "id=env,env=A_TOKEN",
            "-t",
            "app",
            "-o",
            "type=oci,dest=app.tar",
            "app",
        ];
        let mut command = world.command(&arguments);
        let said = Said::of(&command.env("A_TOKEN", &env).output().expect("it starts")).ok();
        assert!(said.err.contains(" ***\n") && said.err.contains("it is ***."), "{}", said.err);
        for value in [&file, &env] {
            assert!(!said.err.contains(value) && !said.out.contains(value), "{}", said.err);
        }
        let sizes = format!("{}\n{}\n", file.len() + 1, env.len());
        // `/run` is there for the mounts alone.
        let stats = "440 7 8\n400 0 0\nls: /run: No such file or directory\nboth\n";
        assert_eq!(world.run(&["run", "app"]).ok().out, format!("{sizes}{stats}"), "{runtime}");
        assert_eq!(places(&world.path(""), &[&file, &env]), [""; 0], "{runtime}");

        // A command that fails shows its last lines again, and so does its log.
        world.write(
            "app/Dockerfile",
            "FROM case-base\nRUN --mount=type=secret,id=file cat /run/secrets/file; exit 3\n",
        );
        for mode in ["plain", "quiet", "rawjson"] {
            let arguments =
                ["build", "--oci-runtime", runtime, "--progress", mode, "--secret", &source, "app"];
            let said = world.run(&arguments);
            assert_eq!(said.code, 1, "{}", said.err);
            assert!(said.err.contains("***") && !said.err.contains(&file), "{}", said.err);
        }
        assert_eq!(places(&world.path(""), &[&file, &env]), [""; 0], "{runtime}");
    }
}

#[test]
fn while_it_is_used_a_secret_is_on_no_disk_and_in_no_other_process() {
    let world = World::with_base();
    let (file, env) = (value("file"), value("env"));
    let folder = lend(&world, &file);
    let source = format!("id=file,src={}", folder.path().join("file").display());
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN --mount=type=secret,id=file --mount=type=secret,id=env,env=TOKEN \
         test -s /run/secrets/file -a -n \"$TOKEN\" && exec env -u TOKEN sh -c \
         'echo started; exec sleep 1000'\n",
    );
    for runtime in ["libcontainer", "/usr/bin/runc"] {
        let token = world.path("token").display().to_string();
        let arguments = [
            "build",
            "--oci-runtime",
            runtime,
            "--secret",
            &source,
            "--secret",
            &format!("id=env,src={token}"),
            "app",
        ];
        // By a pipe: it is in nobody's environment.
        let _ = std::fs::remove_file(&token);
        let made = std::process::Command::new("mkfifo").arg(&token).status().expect("mkfifo");
        assert!(made.success());
        let mut child =
            world.command(&arguments).stderr(Stdio::piped()).spawn().expect("it starts");
        std::fs::write(&token, &env).expect("given");
        let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
        while let Some(Ok(line)) = lines.next() {
            assert!(!line.contains("ERROR"), "{line}");
            if line.ends_with(" started") {
                break;
            }
        }
        assert_eq!(places(&world.path(""), &[&file, &env]), [""; 0], "{runtime}");
        child.kill().expect("kill -9");
        child.wait().expect("it is dead");
        assert_eq!(places(&world.path(""), &[&file, &env]), [""; 0], "{runtime}, killed");
    }
}

#[test]
fn what_a_secret_is_changes_no_key() {
    let world = World::with_base();
    let folder = lend(&world, "one");
    let source = format!("id=file,src={}", folder.path().join("file").display());
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN --mount=type=secret,id=file wc -c < /run/secrets/file\n",
    );
    let build = || world.run(&["build", "--secret", &source, "app"]).ok().ran().len();
    assert_eq!(build(), 1);
    std::fs::write(folder.path().join("file"), "another").expect("changed");
    assert_eq!(build(), 0);
    assert_eq!(world.run(&["build", "app"]).ok().ran().len(), 0, "nor whether it is there");
}

#[test]
fn a_required_one_that_is_missing_is_an_error_with_a_place_and_a_hint() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n",
    );
    let said = world.run(&["build", "app"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("secret `token` is required and was not given"), "{}", said.err);
    assert!(said.err.contains("--secret id=token,src=FILE"), "{}", said.err);
    let close = world.command(&["build", "--secret", "id=tokens,env=T", "app"]);
    let mut close = close;
    let said = Said::of(&close.env("T", "x").output().expect("it starts"));
    assert!(said.err.contains("did you mean `tokens`?"), "{}", said.err);
    // With BuildKit, a variable that is not set is a secret that was not given.
    let said = world.run(&["build", "--secret", "id=token,env=NOT_SET", "app"]);
    assert!(said.err.contains("secret `token` is required"), "{}", said.err);
    let said = world.run(&["build", "--secret", "id=token,src=gone", "app"]);
    assert_eq!(said.code, 2, "{}", said.err);
    world.write("app/Dockerfile", "FROM case-base\nRUN --mount=type=ssh,required true\n");
    let said = world.run(&["build", "app"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("ssh `default` is required"), "{}", said.err);
}

/// Something that answers as an agent does, and says what it was asked.
fn agent(listener: UnixListener) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        // The first connection is the program's, which looks whether anybody is there.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a client");
            asked.extend(answer(&mut stream));
        }
        asked
    })
}

fn answer(stream: &mut UnixStream) -> Vec<u8> {
    let mut asked = Vec::new();
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).expect("a request");
        asked.push(request[0]);
        // SSH_AGENT_IDENTITIES_ANSWER with no keys.
        stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).expect("an answer");
    }
    asked
}

/// A context with OpenSSH's own programs and their libraries in it.
fn ssh_tools(world: &World) {
    let tools = ["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"];
    for tool in tools {
        let out = std::process::Command::new("ldd").arg(tool).output().expect("ldd").stdout;
        let text = String::from_utf8(out).expect("text");
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain([tool]) {
            let to = world.path("tools").join(path.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
            std::fs::copy(path, to).expect(path);
        }
    }
}

#[test]
fn an_agent_is_lent_to_the_command_that_asks() {
    let world = World::with_base();
    ssh_tools(&world);
    let socket = world.path("agent");
    let agent = agent(UnixListener::bind(&socket).expect("a socket"));
    world.write(
        "app/Dockerfile",
        "FROM case-base\nCOPY --from=tools . /\n\
         RUN --mount=type=ssh,mode=0660,uid=3,gid=4 echo $SSH_AUTH_SOCK > /said; \
         stat -c '%a %u %g' $SSH_AUTH_SOCK >> /said; ssh-add -l >> /said 2>&1; \
         ssh-add -D >> /said 2>&1; true\n\
         RUN ls /run >> /said 2>&1; env | grep SSH >> /said; true\n\
         CMD [\"cat\", \"/said\"]\n",
    );
    let arguments = ["build", "--ssh", "default", "--build-context", "tools=tools", "-t", "app"];
    let mut command = world.command(&[&arguments[..], &["app"]].concat());
    let said = Said::of(&command.env("SSH_AUTH_SOCK", &socket).output().expect("it starts"));
    let err = said.ok().err;
    let expected = "/run/buildkit/ssh_agent.0\n660 3 4\nThe agent has no identities.\n\
        Failed to remove all identities.\nls: /run: No such file or directory\n";
    assert_eq!(world.run(&["run", "app"]).ok().out, expected, "{err}");
    // Two times the list, never "remove all".
    assert_eq!(agent.join().expect("the agent's end"), [11]);
}

#[test]
fn keys_get_an_agent_of_their_own_which_ends_with_the_build() {
    let world = World::with_base();
    ssh_tools(&world);
    for (kind, name) in [("ed25519", "one"), ("rsa", "two")] {
        let path = world.path(name);
        let mut make = std::process::Command::new("ssh-keygen");
        make.args(["-q", "-N", "", "-C", name, "-t", kind, "-f"]).arg(path);
        assert!(make.status().expect("ssh-keygen").success());
    }
    world.write(
        "app/Dockerfile",
        "FROM case-base\nCOPY --from=tools . /\n\
         RUN --mount=type=ssh,id=keys,target=/tmp/sock mkdir -p /etc; echo \
             root:x:0:0::/:/bin/sh > /etc/passwd; ssh-add -L > /keys; \
         ssh-add -L | head -n 1 > /one.pub; echo text > /text; \
         ssh-keygen -Y sign -n file -f /one.pub /text && ls /text.sig >> /keys\n\
         CMD [\"cat\", \"/keys\"]\n",
    );
    let arguments =
        ["build", "--ssh", "keys=one,two", "--build-context", "tools=tools", "-t", "app", "app"];
    let agents = || {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let ours = |path: std::path::PathBuf| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let home = std::fs::read_to_string(path.join("environ")).unwrap_or_default();
            let folder = world.path("").display().to_string();
            name == "ssh-agent\n" && home.contains(folder.trim_end_matches('/'))
        };
        all.filter(|process| ours(process.path())).count()
    };
    world.run(&arguments).ok();
    let public = |name: &str| std::fs::read_to_string(world.path(name)).expect("a key");
    let expected = format!("{}{}/text.sig\n", public("one.pub"), public("two.pub"));
    assert_eq!(world.run(&["run", "app"]).ok().out, expected);
    assert_eq!(agents(), 0);
    world.write("no-key", "hello\n");
    let said = world.run(&["build", "--ssh", "keys=no-key", "app"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("`no-key` can not be used as an ssh key"), "{}", said.err);
    assert_eq!(agents(), 0);
}
