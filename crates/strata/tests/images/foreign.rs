//! Commands for other machines: under an emulator, or with a word on what to install.

use std::path::PathBuf;
use std::process::Command;

use crate::rootless::{OUTSIDE, give, in_namespace};
use crate::world::{World, is_root};

/// What the kernel knows a program for arm64 by, and who runs it. `F`: the emulator is opened when
/// it is registered, and need not be in the image.
const REGISTERED: &str = concat!(
    r":strata-test-aarch64:M:",
    r":\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
    ":/usr/bin/qemu-aarch64-static:F"
);

/// An emulator that the kernel knows of as long as this lives.
struct Emulator {
    /// A place of the test's own where what the kernel knows is mounted.
    place: PathBuf,
    is_registered: bool,
}

impl Emulator {
    fn register(place: PathBuf) -> Self {
        std::fs::create_dir(&place).expect("a folder");
        let mount = Command::new("mount").args(["-t", "binfmt_misc", "none"]).arg(&place).status();
        assert!(mount.is_ok_and(|status| status.success()), "binfmt_misc can not be mounted");
        let mut emulator = Self { place, is_registered: false };
        let known = std::fs::read_dir(&emulator.place).expect("a list");
        let mut known = known.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        if known.any(|text| text.starts_with("enabled") && text.contains("qemu-aarch64")) {
            return emulator;
        }
        std::fs::write(emulator.place.join("register"), REGISTERED).expect("registered");
        emulator.is_registered = true;
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if self.is_registered {
            let _ = std::fs::write(self.place.join("strata-test-aarch64"), "-1");
        }
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

/// A build context with a program for arm64.
fn arm_context(world: &World) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/foreign-program.sh");
    let said = Command::new(script).output().expect("a program for arm64");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let program = String::from_utf8(said.stdout).expect("a path");
    // Debian's busybox starts its own commands by `/proc/self/exe`, which is the emulator: only
    // whole paths are others' programs.
    let dockerfile = "FROM scratch\n\
        COPY busybox /bin/busybox\n\
        RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
        RUN /bin/uname -m > /first; printf x > /new\n\
        RUN set -e; /bin/cat /first > /machine; /bin/rm /first; \
            /bin/touch -hd @1000000000 /machine /new /bin/* /bin\n";
    world.write("app/Dockerfile", dockerfile);
    std::fs::copy(program.trim(), world.path("app/busybox")).expect("a copy");
    let mut touch = Command::new("touch");
    touch.args(["-d", "@1000000000", "app/busybox", "app/Dockerfile", "app"]);
    assert!(touch.current_dir(world.path("")).status().expect("touch").success());
}

const BUILD: [&str; 8] = ["build", "--platform", "linux/arm64", "-t", "far", "-o", "out", "app"];

fn check(world: &World) {
    let machine = std::fs::read_to_string(world.path("out/machine")).expect("a file");
    assert_eq!(machine, "aarch64\n");
    let mut names: Vec<String> = std::fs::read_dir(world.path("out"))
        .expect("a list")
        .map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    // Nothing of the emulator is in the image.
    assert_eq!(names, ["bin", "dev", "machine", "new", "proc", "sys"]);
}

/// Held by a test that tells the machine of an emulator, and by one that wants to be without: they
/// run in processes of their own, and the machine has one list.
fn alone() -> std::fs::File {
    let path = std::env::temp_dir().join("strata-test-emulators.lock");
    let file = std::fs::File::create(path).expect("a file to lock");
    file.lock().expect("locked");
    file
}

/// Only root may tell the machine's kernel of an emulator.
#[test]
fn a_foreign_platform_runs_under_an_emulator() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let world = World::new();
    arm_context(&world);
    let emulator = Emulator::register(world.path("binfmt"));
    world.run(&BUILD).ok();
    check(&world);
    let again = world.run(&BUILD).ok();
    assert_eq!(again.ran(), [""; 0], "it is cached as any other: {}", again.err);
    let said = world.run(&["run", "--platform", "linux/arm64", "far", "/bin/uname", "-m"]).ok();
    assert_eq!(said.out, "aarch64\n");
    // A user's builds use what the machine knows.
    let other = World::new();
    arm_context(&other);
    give(&other, OUTSIDE);
    in_namespace(&other, 65_536, &BUILD).ok();
    check(&other);
    drop(emulator);
}

/// Whether a user namespace can have its own list of emulators: Linux 6.7.
fn has_own_lists() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a version");
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 7)
}

/// What nobody has registered: for the kernel's own list it would be the same.
#[test]
fn a_user_needs_nobody_to_register_an_emulator() {
    if !is_root() || !has_own_lists() {
        return;
    }
    let _alone = alone();
    let world = World::new();
    arm_context(&world);
    give(&world, OUTSIDE);
    in_namespace(&world, 65_536, &BUILD).ok();
    check(&world);
    let again = in_namespace(&world, 65_536, &BUILD).ok();
    assert_eq!(again.ran(), [""; 0]);
    let run = ["run", "--platform", "linux/arm64", "far", "/bin/uname", "-m"];
    assert_eq!(in_namespace(&world, 65_536, &run).ok().out, "aarch64\n");
}

/// For a machine that nobody has an emulator of.
#[test]
fn a_foreign_platform_says_what_to_install() {
    let world = World::new();
    // The head of a program for PA-RISC: more of it no machine that can not run it looks at.
    let mut program = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x0f\0\0\0\x01".to_vec();
    program.resize(4096, 0);
    world.write("app/Dockerfile", "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n");
    std::fs::write(world.path("app/sh"), program).expect("a file");
    let failed = world.run(&["build", "--platform", "linux/parisc64", "app"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in ["does not run programs for linux/parisc64", "qemu-user-static", "Dockerfile:3"] {
        assert!(failed.err.contains(part), "`{part}` is not in:\n{}", failed.err);
    }
}
