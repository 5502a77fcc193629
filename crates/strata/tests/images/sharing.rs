//! Several processes on one store: what they share, and what is left when some of them die.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::world::{Said, World};

/// The time of every file and image here, so that equal builds in two worlds give equal ids.
const EPOCH: &str = "1700000000";

/// A world with the image `case-base` and eight projects, all of it as old as in any other one.
fn old_world() -> (World, Vec<String>) {
    let world = World::new();
    crate::world::base_context(&world.path("base"));
    let names = write_projects(&world);
    let mut touch = std::process::Command::new("find");
    touch.arg(world.path("")).args(["-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]);
    assert!(touch.status().expect("find").success());
    let mut command = world.command(&["build", "-q", "-t", "case-base", "base"]);
    Said::of(&command.env("SOURCE_DATE_EPOCH", EPOCH).output().expect("it starts")).ok();
    (world, names)
}

/// A build that runs beside the test.
struct Beside {
    child: Child,
    err: std::thread::JoinHandle<String>,
}

impl Beside {
    fn begin(world: &World, arguments: &[&str]) -> Self {
        let mut child = world
            .command(arguments)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
        let err = std::thread::spawn(move || {
            lines.map_while(Result::ok).fold(String::new(), |text, line| text + &line + "\n")
        });
        Self { child, err }
    }

    fn end(mut self) -> Said {
        let status = self.child.wait().expect("it ends");
        let err = self.err.join().expect("its stderr");
        Said { code: status.code().unwrap_or(-1), out: String::new(), err }
    }

    fn kill(mut self) -> Said {
        self.child.kill().expect("kill");
        drop(self.child.wait());
        let err = self.err.join().expect("its stderr");
        Said { code: -1, out: String::new(), err }
    }
}

#[test]
fn two_builds_that_need_one_step_run_it_once_and_the_other_says_that_it_waits() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN sleep 2; echo made > /made\n");
    let first = Beside::begin(&world, &["build", "-t", "one", "app"]);
    let pid = first.child.id();
    let second = Beside::begin(&world, &["build", "-t", "two", "app"]).end().ok();
    let first = first.end().ok();
    let mut ran = [first.ran(), second.ran()].concat();
    ran.sort();
    assert_eq!(ran, ["RUN sleep 2; echo made > /made"], "{}{}", first.err, second.err);
    assert_eq!(world.id("one"), world.id("two"));
    let waits = "waiting for another build that runs this step (pid ";
    assert!(first.err.contains(waits) || second.err.contains(waits), "{}", second.err);
    if second.err.contains(waits) {
        assert!(second.err.contains(&format!("{waits}{pid})")), "{}", second.err);
    }
}

#[test]
fn who_waits_takes_over_from_a_build_that_is_killed() {
    let world = World::with_base();
    let run = "RUN --mount=type=cache,target=/c if test -e /c/again; then echo second > /made; \
        else touch /c/again; echo started; sleep 1000; fi";
    world.write("app/Dockerfile", &format!("FROM case-base\n{run}\nCMD [\"cat\", \"/made\"]\n"));
    let mut first = world.command(&["build", "app"]);
    let mut first = first.stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut lines = BufReader::new(first.stderr.take().expect("its stderr")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with(" started"))));

    let mut second = world.command(&["build", "-t", "app", "app"]);
    let mut second = second.stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut lines = BufReader::new(second.stderr.take().expect("its stderr")).lines();
    let waits = format!("waiting for another build that runs this step (pid {})", first.id());
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with(&waits))));
    first.kill().expect("kill");
    first.wait().expect("it is dead");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(second.wait().expect("it ends").success(), "{rest:?}");
    assert_eq!(world.run(&["run", "app"]).ok().out, "second\n");
}

/// Eight projects; some steps are the same in several of them.
fn write_projects(world: &World) -> Vec<String> {
    let names: Vec<String> = (0..8).map(|number| format!("app{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        world.write(&format!("{name}/common.txt"), "in all of them\n");
        world.write(&format!("{name}/own.txt"), &format!("only in {number}\n"));
        let (group, age) = (number % 3, "touch -d '2023-01-01 00:00:00'");
        let text = format!(
            "FROM case-base AS tools\n\
             RUN echo tools of {group} > /tools && {age} /tools\n\
             FROM case-base\n\
             COPY common.txt /\n\
             RUN cat /common.txt /common.txt > /twice && {age} /twice\n\
             COPY --from=tools /tools /\n\
             COPY own.txt /\n\
             RUN cat /own.txt /tools > /result && {age} /result\n\
             CMD [\"cat\", \"/result\"]\n"
        );
        world.write(&format!("{name}/Dockerfile"), &text);
    }
    names
}

/// The ids that undisturbed builds of the projects give.
fn undisturbed(names: &[String]) -> BTreeMap<String, String> {
    let (world, _) = old_world();
    let id = |name: &String| {
        let mut command = world.command(&["build", "-q", name]);
        let output = command.env("SOURCE_DATE_EPOCH", EPOCH).output().expect("it starts");
        (name.clone(), Said::of(&output).ok().out.trim().to_owned())
    };
    names.iter().map(id).collect()
}

fn id_now(world: &World, name: &str) -> (String, Said) {
    let iid = world.path(&format!("{name}.iid"));
    let mut command = world.command(&["build", "--iidfile", &iid.to_string_lossy(), name]);
    let output = command.env("SOURCE_DATE_EPOCH", EPOCH).output().expect("it starts");
    let said = Said::of(&output).ok();
    (std::fs::read_to_string(iid).expect("an id").trim().to_owned(), said)
}

#[test]
fn thirty_two_processes_on_one_store_run_each_step_once() {
    let (world, names) = old_world();
    let builds: Vec<Beside> = (0..32)
        .map(|number| Beside::begin(&world, &["build", "--progress=plain", &names[number % 8]]))
        .collect();
    let said: Vec<Said> = builds.into_iter().map(|build| build.end().ok()).collect();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for (number, said) in said.iter().enumerate() {
        for step in said.ran() {
            // What differs between the projects though its text does not.
            let own = if step.contains("own.txt") || step.starts_with("RUN cat /own.txt") {
                format!(" of {}", number % 8)
            } else if step.starts_with("COPY --from") {
                format!(" of group {}", number % 8 % 3)
            } else {
                String::new()
            };
            *ran.entry(step + &own).or_default() += 1;
        }
    }
    // 3 tools, 1 COPY and 1 RUN that all have, 3 COPYs of tools, and 2 of each project's own.
    assert_eq!(ran.len(), 3 + 2 + 3 + 16, "{ran:#?}");
    assert!(ran.values().all(|times| *times == 1), "{ran:#?}");
    let expected = undisturbed(&names);
    for name in &names {
        let (id, said) = id_now(&world, name);
        assert_eq!((said.ran(), Some(&id)), (Vec::new(), expected.get(name)), "{name}");
    }
}

/// How many kills; `STRATA_TEST_KILLS` asks for more.
fn kills() -> u64 {
    let asked = std::env::var("STRATA_TEST_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Steps that a build says it has finished.
fn finished(said: &Said) -> Vec<String> {
    let done = said.err.lines().filter_map(|line| {
        let (number, rest) = line.split_once(' ')?;
        (rest.starts_with("DONE") || rest == "CACHED").then_some(number)
    });
    let title = |number: &str| {
        let mut lines = said.err.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(of, text)| *of == number && text.starts_with('['));
        found.and_then(|(_, text)| text.split_once("] ")).map(|(_, text)| text.to_owned())
    };
    done.filter_map(title).filter(|step| !step.starts_with("FROM ")).collect()
}

#[test]
fn killed_at_any_moment_beside_two_others_no_image_is_wrong_and_no_finished_step_is_lost() {
    let (mut world, names) = old_world();
    let expected = undisturbed(&names);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..kills() {
        if round % 8 == 7 {
            // From the beginning, so that there is something to do.
            world = old_world().0;
        }
        let mut pick = || usize::try_from(random(8)).expect("small");
        let chosen = [pick(), pick(), pick()];
        let builds = chosen.map(|at| Beside::begin(&world, &["build", &names[at]]));
        std::thread::sleep(Duration::from_millis(random(400)));
        let [victim, second, third] = builds;
        let victim = victim.kill();
        let (second, third) = (second.end().ok(), third.end().ok());
        for (at, said) in chosen.iter().zip([victim, second, third]) {
            let (id, again) = id_now(&world, &names[*at]);
            assert_eq!(Some(&id), expected.get(&names[*at]), "round {round}: a wrong image");
            let ran = again.ran();
            let lost = finished(&said).into_iter().filter(|step| ran.contains(step));
            assert_eq!(lost.collect::<Vec<_>>(), [""; 0], "round {round}: lost\n{}", said.err);
        }
    }
}
