//! What other tools say of the images that strata writes: skopeo, umoci, podman.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{Said, World};

/// Runs a tool, which is installed first if it is missing.
fn tool(package: &str, name: &str, arguments: &[&str]) -> Command {
    let is_there = Command::new(name).arg("--version").output().is_ok();
    if !is_there {
        let install = Command::new("apt-get").args(["install", "-y", package]).status();
        assert!(install.expect("apt-get").success(), "{package} can not be installed");
    }
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

fn said(command: &mut Command) -> Said {
    Said::of(&command.output().expect("the tool starts")).ok()
}

/// An application, exported in every form that holds an image.
fn exported() -> World {
    let world = World::with_base();
    world.write("app/file.txt", "content\n");
    world.write(
        "app/Dockerfile",
        "FROM case-base\nLABEL made=here\nENV WORD=hello\nWORKDIR /app\nCOPY file.txt .\n\
         RUN echo $WORD > /said && ln file.txt linked && ln -s /said soft && chmod 2751 /app\n\
         EXPOSE 80\nCMD [\"cat\", \"/said\", \"file.txt\"]\n",
    );
    let outputs = ["type=oci,dest=oci.tar", "type=docker,dest=docker.tar"];
    let layout = "type=oci,tar=false,dest=layout";
    world
        .run(&["build", "-t", "app:1", "-o", outputs[0], "-o", outputs[1], "-o", layout, "app"])
        .ok();
    world
}

#[test]
fn skopeo_describes_all_forms_alike_and_as_strata_does() {
    let world = exported();
    let inspect = |name: &str| {
        let place = format!(
            "{name}:{}",
            world
                .path(match name {
                    "oci-archive" => "oci.tar",
                    "docker-archive" => "docker.tar",
                    _ => "layout",
                })
                .display()
        );
        let place = if name == "oci" { format!("{place}:1") } else { place };
        let text = said(&mut tool("skopeo", "skopeo", &["inspect", "--config", &place])).out;
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let configs = ["oci-archive", "docker-archive", "oci"].map(inspect);
    assert_eq!(configs[0], configs[1]);
    assert_eq!(configs[0], configs[2]);
    let own = world.run(&["inspect", "app:1"]).ok().out;
    let own: Value = serde_json::from_str(&own).expect("JSON");
    assert_eq!(own[0]["RootFS"]["Layers"], configs[0]["rootfs"]["diff_ids"]);
    for field in ["Env", "Cmd", "Labels", "WorkingDir", "ExposedPorts"] {
        assert_eq!(own[0]["Config"][field], configs[0]["config"][field], "{field}");
        assert_ne!(configs[0]["config"][field], Value::Null, "{field}");
    }
}

/// Every path below a folder with type, mode and content, as `find` and `sha256sum` see it.
fn files(root: &Path) -> String {
    let script = "find . -mindepth 1 -printf '%P %y %m %U:%G %n %l\\n' | sort; \
                  find . -type f ! -path './bin/*' -exec sha256sum {} + | sort";
    said(Command::new("sh").args(["-ec", script]).current_dir(root)).out
}

#[test]
fn umoci_unpacks_what_strata_lays_out() {
    let world = exported();
    let image = format!("{}:1", world.path("layout").display());
    let bundle = world.path("bundle");
    let arguments = ["unpack", "--image", &image, &bundle.to_string_lossy()];
    said(&mut tool("umoci", "umoci", &arguments));
    world.run(&["build", "-o", "plain", "app"]).ok();
    assert_eq!(files(&bundle.join("rootfs")), files(&world.path("plain")));
}

/// A layer that replaces, hides and removes what lies below it, with several files of some size.
fn large(world: &World) {
    for number in 0..24 {
        let text = format!("{number} ").repeat(150_000);
        world.write(&format!("large/tree/d{}/f{number}", number % 3), &text);
    }
    world.write(
        "large/Dockerfile",
        "FROM case-base\nRUN mkdir -m 2750 /d /e && echo low > /d/low && echo low > /e/low\n\
         COPY tree /tree\n\
         RUN rm -r /d && mkdir -m 700 /d && cp -r /tree/d0 /d/ && rm /e/low \\\n  \
         && ln /d/d0/f3 /e/linked && ln -s f3 /e/soft && chmod 3770 /e /tree/d1\n\
         CMD [\"true\"]\n",
    );
}

#[test]
fn a_split_layer_gives_the_files_that_it_gives_whole() {
    let world = World::with_base();
    large(&world);
    let output = "type=oci,tar=false,dest=layout,layer-split=1M";
    world.run(&["build", "-t", "split:1", "-o", output, "large"]).ok();
    world.run(&["build", "-o", "plain", "large"]).ok();
    let place = format!("{}:1", world.path("layout").display());
    let config = ["inspect", "--config", &format!("oci:{place}")];
    let config = said(&mut tool("skopeo", "skopeo", &config)).out;
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let layers = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    let history = config["history"].as_array().expect("a history");
    assert!(layers > 8, "{layers}");
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != true).count(), layers);
    let bundle = world.path("bundle");
    let arguments = ["unpack", "--image", &place, &bundle.to_string_lossy()];
    said(&mut tool("umoci", "umoci", &arguments));
    assert_eq!(files(&bundle.join("rootfs")), files(&world.path("plain")));
}

#[test]
fn of_a_split_layer_a_changed_file_changes_one_part() {
    let world = World::with_base();
    large(&world);
    world.write("large/Dockerfile", "FROM scratch\nCOPY tree /tree\n");
    let diff_ids = |name: &str| {
        let output = "type=image,layer-split=1M";
        world.run(&["build", "-t", name, "-o", output, "large"]).ok();
        let own = world.run(&["inspect", name]).ok().out;
        let own: Value = serde_json::from_str(&own).expect("JSON");
        let layers = own[0]["RootFS"]["Layers"].as_array().expect("layers").clone();
        layers.into_iter().collect::<Vec<Value>>()
    };
    let before = diff_ids("one");
    world.write("large/tree/d2/f5", &"changed ".repeat(80_000));
    let after = diff_ids("two");
    assert!(before.len() > 4 && before.len() == after.len(), "{before:?}");
    assert_eq!(after.iter().filter(|layer| !before.contains(layer)).count(), 1);
}

/// The image of the large context, packed so, as a layout.
fn laid_out_as(world: &World, compression: &str, at: &str) -> String {
    let output = format!("type=oci,tar=false,dest={at},compression={compression}");
    world.run(&["build", "-t", "chunked:1", "-o", &output, "large"]).ok();
    format!("{}:1", world.path(at).display())
}

#[test]
fn an_estargz_is_a_layer_as_any_other_to_umoci() {
    let world = World::with_base();
    large(&world);
    let place = laid_out_as(&world, "estargz", "layout");
    world.run(&["build", "-o", "plain", "large"]).ok();
    let bundle = world.path("bundle");
    let arguments = ["unpack", "--image", &place, &bundle.to_string_lossy()];
    said(&mut tool("umoci", "umoci", &arguments));
    let root = bundle.join("rootfs");
    for extra in ["stargz.index.json", ".no.prefetch.landmark"] {
        std::fs::remove_file(root.join(extra)).expect(extra);
    }
    assert_eq!(files(&root), files(&world.path("plain")));
}

#[test]
fn skopeo_takes_the_layers_of_a_zstd_chunked_apart() {
    let world = World::with_base();
    large(&world);
    let place = laid_out_as(&world, "zstd:chunked", "layout");
    // The same image as with any other compression.
    laid_out_as(&world, "uncompressed", "other");
    let (one, other) = (format!("oci:{place}"), format!("oci:{}:1", world.path("other").display()));
    let config = |place: &str| {
        let text = said(&mut tool("skopeo", "skopeo", &["inspect", "--config", place])).out;
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(config(&one), config(&other));
    let manifest = said(&mut tool("skopeo", "skopeo", &["inspect", "--raw", &one])).out;
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    let is_chunked = |layer: &&Value| {
        let notes = &layer["annotations"];
        notes.get("io.github.containers.zstd-chunked.manifest-checksum").is_some()
    };
    assert_eq!(layers.iter().filter(is_chunked).count(), layers.len(), "{manifest}");
    let apart = format!("dir:{}", world.path("apart").display());
    said(&mut tool("skopeo", "skopeo", &["copy", "--dest-decompress", &one, &apart]));
    let diff_ids = config(&one)["rootfs"]["diff_ids"].clone();
    for diff_id in diff_ids.as_array().expect("diff IDs") {
        let name = diff_id.as_str().and_then(|id| id.strip_prefix("sha256:")).expect("a digest");
        assert!(world.path("apart").join(name).exists(), "{name}");
    }
}

/// RPM's own database of packages with headers of all sizes.
#[test]
fn what_rpm_knows_is_in_the_list_of_packages() {
    let world = World::with_base();
    let mut spec = "Name: hello\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: it\nLicense: MIT\n\
                    BuildArch: noarch\n%description\nit\n%files\n"
        .to_owned();
    for number in 0..40 {
        let text = "words and words ".repeat(number * 40);
        spec += &format!("%package n{number}\nSummary: s\n%description n{number}\n{text}\n");
        spec += &format!("%files n{number}\n");
    }
    world.write("hello.spec", &spec);
    let top = format!("_topdir {}", world.path("top").display());
    let spec = world.path("hello.spec");
    let build = ["-bb", "--define", &top, &spec.to_string_lossy()];
    said(&mut tool("rpm", "rpmbuild", &build));
    world.write("packages/etc/os-release", "ID=fedora\nVERSION_ID=40\n");
    world.write("packages/var/lib/rpm/.keep", "");
    let database = world.path("packages/var/lib/rpm");
    let mut install = tool("rpm", "rpm", &["--justdb", "--nodeps", "--dbpath"]);
    install.arg(&database).arg("-i");
    let made = std::fs::read_dir(world.path("top/RPMS/noarch")).expect("packages");
    install.args(made.map(|entry| entry.expect("an entry").path()));
    said(&mut install);
    world.write("packages/Dockerfile", "FROM scratch\nCOPY . /\n");
    let build = ["build", "--sbom=true", "-o", "type=oci,tar=false,dest=layout", "packages"];
    let talk = world.run(&build).ok().err;
    assert!(!talk.contains("left out"), "{talk}");
    let list = said(
        Command::new("sh")
            .args(["-c", "cat layout/blobs/sha256/* | tr ',' '\\n'"])
            .current_dir(world.path(".")),
    )
    .out;
    let urls = list.lines().filter_map(|line| line.split_once("pkg:rpm/"));
    let mut urls: Vec<&str> = urls.filter_map(|(_, url)| url.split('"').next()).collect();
    urls.sort_unstable();
    assert_eq!(urls.len(), 41, "{urls:?}");
    let source = "upstream=hello-1.2-3.src.rpm";
    let query = format!("?arch=noarch&distro=fedora-40&epoch=4&{source}");
    assert_eq!(urls[0], format!("fedora/hello-n0@1.2-3{query}"));
    assert_eq!(urls[40], format!("fedora/hello@1.2-3{query}"));

    // What can not be read is said.
    world.write("packages/usr/lib/sysimage/rpm/Packages.db", "RpmP");
    let talk = world.run(&build).ok().err;
    let text = "SBOM: the packages of /usr/lib/sysimage/rpm/Packages.db are left out: \
                it is in RPM's form ndb";
    assert!(talk.contains(text), "{talk}");
}

#[test]
fn podman_loads_and_runs_it() {
    let world = exported();
    let [root, run_root] = ["podman", "podman-run"].map(|name| world.path(name));
    // runc takes machines with both cgroup versions; limits can not be raised everywhere.
    let runtime = said(&mut tool("runc", "runc", &["--version"]));
    assert!(runtime.out.contains("runc"));
    world.write(
        "containers.conf",
        "[containers]\ndefault_ulimits = []\n[engine]\nruntime = \"runc\"\n",
    );
    let podman = |arguments: &[&str]| {
        let mut command = tool("podman", "podman", &[]);
        command.env("CONTAINERS_CONF", world.path("containers.conf"));
        command.arg("--root").arg(&root).arg("--runroot").arg(&run_root);
        command.args(["--cgroup-manager", "cgroupfs"]).args(arguments);
        said(&mut command).out
    };
    let id = world.id("app:1");
    for archive in ["oci.tar", "docker.tar"] {
        podman(&["load", "-i", &world.path(archive).to_string_lossy()]);
        let loaded = podman(&["inspect", "--format", "{{.Id}}", "app:1"]);
        assert_eq!(format!("sha256:{}", loaded.trim()), id, "{archive}");
        let out = podman(&["run", "--rm", "--network", "host", "--ulimit", "host", "app:1"]);
        assert_eq!(out, "hello\ncontent\n", "{archive}");
        podman(&["rmi", "-f", "app:1"]);
    }
}
