//! Images that mean harm, by `load`, as a base in a layout, and from a registry: refused with a
//! word, nothing kept under a name, nothing written outside of the store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use strata_image::Encoder;
use strata_oci::{Compression, Digest};

use crate::server::{Answer, Server};
use crate::session::Session;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout, or what a registry has: documents and layers by digest, and where it begins.
#[derive(Default, Clone)]
struct Evil {
    blobs: BTreeMap<String, Vec<u8>>,
    root: Value,
}

impl Evil {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn document(&mut self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// An image of these layers, as the root; what it says can be spoilt before it is written.
    fn image(layers: &[Vec<u8>], spoil: impl Fn(&mut Value, &mut Value)) -> Self {
        let mut evil = Self::default();
        let described: Vec<Value> = layers.iter().map(|tar| evil.blob(TAR, tar)).collect();
        let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": described});
        spoil(&mut config, &mut manifest);
        manifest["config"] = evil.document(CONFIG, &config);
        evil.root = evil.document(MANIFEST, &manifest);
        evil
    }

    /// An index over these as the root.
    fn index(&mut self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.root = self.document(INDEX, &index);
    }

    fn write(&self, at: &Path) {
        std::fs::create_dir_all(at.join("blobs/sha256")).expect("folders");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(at.join(name), bytes).expect("a file");
        };
        write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
        let mut root = self.root.clone();
        root["annotations"] = json!({"io.containerd.image.name": "docker.io/library/evil:1"});
        let index = json!({"schemaVersion": 2, "manifests": [root]});
        write("index.json", index.to_string().as_bytes());
        for (digest, bytes) in &self.blobs {
            write(&format!("blobs/sha256/{}", &digest["sha256:".len()..]), bytes);
        }
    }

    fn serve(&self, server: &Server) {
        for (digest, bytes) in &self.blobs {
            let kind: &[(&str, &str)] = match serde_json::from_slice::<Value>(bytes) {
                Ok(value) if value["mediaType"] == INDEX => &[("Content-Type", INDEX)],
                _ => &[("Content-Type", MANIFEST)],
            };
            let answer = Answer::File(bytes.clone(), kind);
            if Some(&**digest) == self.root["digest"].as_str() {
                server.put("v2/evil/manifests/1", answer.clone());
            }
            server.put(&format!("v2/evil/manifests/{digest}"), answer.clone());
            server.put(&format!("v2/evil/blobs/{digest}"), answer);
        }
        server.put("v2/", Answer::Status(200));
    }
}

/// Every way into the store fails with this in its message, and leaves nothing.
#[track_caller]
fn refused(evil: &Evil, message: &str) {
    refused_by(evil, message, message);
}

/// The same, where a registry's image is refused for another reason than a layout's.
#[track_caller]
fn refused_by(evil: &Evil, message: &str, of_registry: &str) {
    let session = Session::with(&[("Dockerfile", "FROM evil\nCOPY x /x\n"), ("x", "x")]);
    session.write("secret", "secret");
    evil.write(&session.path("layout"));
    let server = Server::new();
    evil.serve(&server);
    let before = everything(&session.path(""));
    let name = server.url("evil:1").replace("http://", "");
    let from = format!("FROM {name}\nCOPY x /x\n");
    std::fs::write(session.path("../Dockerfile"), from).expect("written");
    let ways = [
        ("load -i layout".to_owned(), message),
        (
            "build --platform linux/amd64 --build-context evil=oci-layout://layout .".to_owned(),
            message,
        ),
        (format!("pull --platform linux/amd64 {name}"), of_registry),
        ("build --platform linux/amd64 -f ../Dockerfile .".to_owned(), of_registry),
    ];
    for (line, message) in ways {
        let output = session.command(&line).output().expect("it runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        // The image is wrong, or the registry that sent other bytes than were asked for.
        assert!(matches!(output.status.code(), Some(1 | 3)), "strata {line}: {talk}");
        assert!(!talk.contains("the store's"), "strata {line}: {talk}");
        assert!(talk.contains(message), "strata {line}: {talk}");
        assert_eq!(everything(&session.path("")), before, "strata {line} wrote outside");
        assert_eq!(session.stdout_text("images").lines().count(), 1, "strata {line}");
    }
    let checked = session.stdout_text("fsck");
    assert!(!checked.contains("damaged"), "{checked}");
}

/// All files below a folder with their contents.
fn everything(at: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(at).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.display().to_string(), std::fs::read(&path).expect("bytes"));
        }
    }
    found
}

/// A tar of entries: type, name, link, content.
fn tar(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link, content) in entries {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn as_it_is(_: &mut Value, _: &mut Value) {}

fn file(name: &str) -> Vec<u8> {
    tar(&[(tar::EntryType::Regular, name, "", b"x")])
}

use tar::EntryType::{Link, Regular, Symlink};

#[test]
fn layers_that_lead_outside() {
    refused(&Evil::image(&[file("../evil")], as_it_is), "leads out");
    refused(&Evil::image(&[file("a"), file("a/../../evil")], as_it_is), "leads out");
    let link = tar(&[(Link, "l", "../../../secret", b"")]);
    refused(&Evil::image(&[link], as_it_is), "leads out");
    let absolute = tar(&[(Link, "l", "/etc/passwd", b"")]);
    refused(&Evil::image(&[absolute], as_it_is), "not in the same layer");
    let circle = tar(&[(Symlink, "l", "l", b""), (Regular, "l/x", "", b"x")]);
    refused(&Evil::image(&[circle], as_it_is), "too many symbolic links");
    let through = [tar(&[(Symlink, "l", "/etc", b"")]), tar(&[(Link, "p", "l/passwd", b"")])];
    refused(&Evil::image(&through, as_it_is), "not in the same layer");
}

#[test]
fn what_leads_nowhere_stays_inside() {
    // Links out of the root are links inside of it, whichever layer follows them.
    let session = Session::with(&[("Dockerfile", "FROM evil\nCOPY x /l/x\n"), ("x", "x")]);
    let up = "../../../../../../../../..";
    let layers = [
        tar(&[(Symlink, "l", up, b""), (Symlink, "m", "/", b""), (Regular, "/abs", "", b"x")]),
        tar(&[(Regular, "l/tmp/strata-hostile", "", b"x"), (Regular, "m/tmp/other", "", b"x")]),
    ];
    Evil::image(&layers, as_it_is).write(&session.path("layout"));
    let line = "build --platform linux/amd64 --build-context evil=oci-layout://layout \
        -o type=tar,dest=o.tar .";
    session.stdout(line);
    let tar = std::fs::read(session.path("o.tar")).expect("a tar");
    let files = crate::session::files_in(&tar);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.trim_end_matches('/')).collect();
    assert_eq!(names, ["abs", "l", "m", "tmp", "tmp/other", "tmp/strata-hostile", "x"]);
    assert!(!Path::new("/tmp/strata-hostile").exists() && !Path::new("/tmp/other").exists());
    // Out again, into a directory whose links lead out, too: nothing is followed.
    std::fs::create_dir(session.path("out")).expect("a folder");
    std::fs::create_dir(session.path("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink(session.path("elsewhere"), session.path("out/tmp")).expect("link");
    let line = line.replace("type=tar,dest=o.tar", "type=local,dest=out");
    drop(session.command(&line).output().expect("it runs"));
    assert!(everything(&session.path("elsewhere")).is_empty(), "a link was followed");
}

#[test]
fn a_tar_that_is_not_ours_can_be_compressed_anew() {
    let session = Session::with(&[("Dockerfile", "FROM foreign\nCOPY x /x\n"), ("x", "x")]);
    // Names that are not in order, twice, and absolute: the config names exactly these bytes.
    let foreign =
        tar(&[(Regular, "b", "", b"1"), (Regular, "/a", "", b"2"), (Regular, "b", "", b"3")]);
    let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None);
    encoder.write_all(&foreign).expect("written");
    let gzip = encoder.finish().expect("finished");
    let spoil = |config: &mut Value, manifest: &mut Value| {
        config["rootfs"]["diff_ids"] = json!([Digest::of(&foreign).to_string()]);
        manifest["layers"][0]["mediaType"] = json!(format!("{TAR}+gzip"));
    };
    Evil::image(std::slice::from_ref(&gzip), spoil).write(&session.path("layout"));
    for (compression, forced) in [("gzip", false), ("zstd", true), ("uncompressed", true)] {
        let line = format!(
            "build --platform linux/amd64 -t app --build-context foreign=oci-layout://layout \
             -o type=oci,dest=o.tar,compression={compression},force-compression={forced} ."
        );
        session.stdout(&line);
        let written = std::fs::read(session.path("o.tar")).expect("an archive");
        let has_gzip = written.windows(gzip.len()).any(|part| part == gzip);
        assert_eq!(has_gzip, !forced, "{compression}");
        let other = Session::new();
        std::fs::copy(session.path("o.tar"), other.path("o.tar")).expect("copied");
        let id = other.stdout_text("load -i o.tar");
        assert_eq!(
            id,
            session.stdout_text(
                "build -q --platform linux/amd64 \
            --build-context foreign=oci-layout://layout ."
            ),
            "{compression}"
        );
    }
}

#[test]
fn bytes_that_are_not_as_described() {
    let good = || Evil::image(&[file("a"), file("b")], as_it_is);
    let layer = Digest::of(&file("b")).to_string();
    let mut evil = good();
    evil.blobs.insert(layer.clone(), file("c"));
    refused_by(&evil, "digest", "sent wrong bytes");
    evil.blobs.insert(layer.clone(), file("b")[..700].to_vec());
    refused_by(&evil, "700 bytes instead of", "bytes");
    evil.blobs.insert(layer.clone(), [file("b"), file("b")].concat());
    refused_by(&evil, "bytes instead of", "bytes");
    evil.blobs.remove(&layer);
    refused_by(&evil, "is missing", "is not in the registry");
    let wrong_tar = |config: &mut Value, _: &mut Value| {
        config["rootfs"]["diff_ids"][1] = json!(Digest::of(b"other").to_string());
    };
    refused(&Evil::image(&[file("a"), file("b")], wrong_tar), "the config says");
    let no_digest = |_: &mut Value, manifest: &mut Value| {
        manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd");
    };
    refused(&Evil::image(&[file("a")], no_digest), "digest");
    let mut evil = good();
    evil.root["digest"] = json!(Digest::of(b"other").to_string());
    evil.blobs.insert(Digest::of(b"other").to_string(), b"{}".to_vec());
    refused_by(&evil, "bytes instead of", "manifest");
}

#[test]
fn sizes_that_are_lies() {
    let huge = |_: &mut Value, manifest: &mut Value| {
        manifest["layers"][0]["size"] = json!(u64::MAX);
    };
    refused(&Evil::image(&[file("a")], huge), "bytes");
    let negative = |_: &mut Value, manifest: &mut Value| {
        manifest["layers"][0]["size"] = json!(-1);
    };
    refused(&Evil::image(&[file("a")], negative), "manifest");
    let mut terabyte = file("a");
    terabyte[124..136].copy_from_slice(b"\x80\0\0\0\0\0\x01\0\0\0\0\0");
    let mut header = tar::Header::from_byte_slice(&terabyte[..512]).clone();
    header.set_cksum();
    terabyte[..512].copy_from_slice(header.as_bytes());
    refused(&Evil::image(&[terabyte], as_it_is), "bytes");
    let mut evil = Evil::image(&[file("a")], as_it_is);
    let document = vec![b' '; 9 << 20];
    evil.root = evil.blob(MANIFEST, &document);
    refused_by(&evil, "more than 8388608", "larger than");
}

#[test]
fn layers_without_number_or_of_another_number() {
    let more = |config: &mut Value, _: &mut Value| {
        config["rootfs"]["diff_ids"] = json!([]);
    };
    refused(&Evil::image(&[file("a")], more), "it names 0 layers, the manifest 1");
    let fewer = |_: &mut Value, manifest: &mut Value| {
        manifest["layers"] = json!([]);
    };
    refused(&Evil::image(&[file("a")], fewer), "it names 1 layers, the manifest 0");
    let many = |config: &mut Value, manifest: &mut Value| {
        let repeat = |one: &Value| Value::from(vec![one.clone(); 20_000]);
        config["rootfs"]["diff_ids"] = repeat(&config["rootfs"]["diff_ids"][0]);
        manifest["layers"] = repeat(&manifest["layers"][0]);
    };
    refused(&Evil::image(&[file("a")], many), "2000 are the most that are taken");
}

#[test]
fn indexes_in_circles_and_thickets() {
    // A circle would need a digest that is known before its document: what can be made is deep,
    // or has more ways through it than anybody lives to go.
    let mut evil = Evil::image(&[file("a")], as_it_is);
    for _ in 0..20 {
        let nested = evil.root.clone();
        evil.index(&[nested]);
    }
    refused_by(&evil, "nested too deep", "an index in an index");
    let mut evil = Evil::image(&[file("a")], as_it_is);
    let mut unfit = evil.root.clone();
    unfit["platform"] = json!({"architecture": "s390x", "os": "linux"});
    evil.index(&[unfit]);
    for number in 0..7 {
        let mut nested = evil.root.clone();
        nested["annotations"] = json!({"number": number.to_string()});
        evil.index(&vec![nested; 100]);
    }
    refused_by(&evil, "too many", "there is none for");
}

#[test]
fn a_bomb_fills_no_more_than_the_store_may_hold() {
    // Ninety megabytes of zeros in some kilobytes.
    let mut encoder = Encoder::new(Vec::new(), Compression::Zstd, None);
    encoder.write_all(&tar(&[(Regular, "zeros", "", &vec![0; 90 << 20])])).expect("written");
    let bomb = encoder.finish().expect("finished");
    assert!(bomb.len() < 100 << 10, "{}", bomb.len());
    let of_tar = |config: &mut Value, _: &mut Value| {
        let diff_id = Digest::of(&tar(&[(Regular, "zeros", "", &vec![0; 90 << 20])]));
        config["rootfs"]["diff_ids"] = json!([diff_id.to_string()]);
    };
    let session = Session::new();
    Evil::image(&[bomb], of_tar).write(&session.path("layout"));
    let limited = "--store-size 60MB load -i layout";
    let output = session.command(limited).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && talk.contains("do not fit"), "{talk}");
    let kept: usize = everything(&session.path("../home")).values().map(Vec::len).sum();
    assert!(kept < 60_000_000, "{kept} bytes are left");
    // Where there is room, it is an image like others.
    session.stdout("load -i layout");
}
