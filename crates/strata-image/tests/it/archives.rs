//! Images as archives: read back by us, by skopeo and by umoci.

use std::io::{Read, Write};
use std::path::Path;

use crate::support::{directory, file, link, pack, removed, run, symlink, temporary};
use strata_cas::{Layer, MemoryStore};
use strata_image::{
    Decoder, DockerArchive, Encoder, ImageError, ImageSource, LayerSource, ManifestFlavour,
    OciLayout, OutgoingImage, OutgoingLayer, Parcel, Selector, config_bytes, manifest, parcels,
    write_docker_archive, write_oci_archive, write_oci_directory,
};
use strata_oci::{Compression, Descriptor, Digest, ImageConfig, Platform};

struct Bytes(Vec<u8>);

impl LayerSource for Bytes {
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        out.write_all(&self.0).map_err(ImageError::io("write"))
    }
}

/// An image of two layers, compressed so.
struct Image {
    config: Vec<u8>,
    layers: Vec<(Descriptor, Bytes)>,
    tars: Vec<Vec<u8>>,
}

fn image(compression: Compression, architecture: &str) -> Image {
    let store = MemoryStore::default();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let stack = [
        Layer::new(vec![
            directory("etc"),
            file(&store, "etc/motd", architecture.as_bytes()),
            file(&store, "etc/old", b"old"),
            file(&store, "large", &large),
        ]),
        Layer::new(vec![
            directory("etc"),
            link("etc/zz", "etc/new"),
            file(&store, "etc/new", b"new"),
            removed("etc/old"),
            symlink("s", "etc/new"),
        ]),
    ];
    let tars: Vec<Vec<u8>> = stack.iter().map(|layer| pack(layer, &store)).collect();
    let compress = |tar: &Vec<u8>| {
        let mut encoder = Encoder::new(Vec::new(), compression, None);
        encoder.write_all(tar).expect("write");
        let bytes = encoder.finish().expect("finish");
        (Descriptor::of(compression.layer_media_type(), &bytes), Bytes(bytes))
    };
    let layers = tars.iter().map(compress).collect();
    let mut config = ImageConfig { os: "linux".to_owned(), ..ImageConfig::default() };
    config.architecture = architecture.to_owned();
    config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    config.rootfs.diff_ids = tars.iter().map(|tar| Digest::of(tar)).collect();
    Image { config: config_bytes(&config).expect("a config"), layers, tars }
}

impl Image {
    fn outgoing(&self, names: &[&str], platform: &str) -> OutgoingImage<'_> {
        let descriptors: Vec<Descriptor> =
            self.layers.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        let manifest = manifest(ManifestFlavour::Oci, &self.config, &descriptors);
        OutgoingImage {
            names: names.iter().map(|name| name.parse().expect("a name")).collect(),
            platform: platform.parse().expect("a platform"),
            manifest: manifest.expect("a manifest"),
            config: self.config.clone(),
            layers: self
                .layers
                .iter()
                .map(|(descriptor, bytes)| OutgoingLayer {
                    descriptor: descriptor.clone(),
                    source: bytes,
                })
                .collect(),
        }
    }

    /// What was read is what was written.
    fn check(&self, read: &dyn ImageSource) {
        assert_eq!(read.config(), self.config);
        assert_eq!(read.layers().len(), self.tars.len());
        for (index, tar) in self.tars.iter().enumerate() {
            let reader = read.open_layer(index).expect("open");
            let mut bytes = Vec::new();
            Decoder::new(reader).expect("a decoder").read_to_end(&mut bytes).expect("read");
            assert!(bytes == *tar, "layer {index}");
        }
        assert!(read.open_layer(self.tars.len()).is_err());
    }
}

fn packed<'a>(images: &[OutgoingImage<'a>]) -> Vec<Parcel<'a>> {
    parcels(images).expect("parcels")
}

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

fn write(path: &Path, write: impl FnOnce(&mut Vec<u8>) -> Result<(), ImageError>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("write");
    std::fs::write(path, &bytes).expect("write");
    bytes
}

#[test]
fn an_oci_archive_is_read_by_us_and_by_skopeo() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let image = image(compression, "amd64");
        let out = image.outgoing(&["app:1", "ghcr.io/x/app:2"], "linux/amd64");
        let outer = temporary();
        let path = outer.path().join("i.tar");
        let bytes = write(&path, |to| write_oci_archive(&packed(std::slice::from_ref(&out)), to));
        assert!(
            bytes == write(&path, |to| write_oci_archive(&packed(std::slice::from_ref(&out)), to)),
            "not stable"
        );
        let layout = OciLayout::open(&path).expect("open");
        for name in ["", "1", "app:1", "docker.io/library/app:1", "ghcr.io/x/app:2", "2"] {
            let found = layout.image(&Selector::parse(name), &platform("linux/amd64"));
            let found = found.expect(name);
            image.check(&found);
            assert_eq!(found.manifest.digest, out.manifest.digest);
        }
        let by_digest = Selector::Digest(out.manifest.digest);
        image.check(&layout.image(&by_digest, &platform("linux/amd64")).expect("by digest"));
        let missing = layout.image(&Selector::parse("3"), &platform("linux/amd64"));
        let message = missing.expect_err("no image").to_string();
        assert!(message.contains("`3`") && message.contains("app:1"), "{message}");
        let inspected = run("skopeo", &["inspect", "oci-archive:i.tar:1"], outer.path());
        assert!(inspected.contains(&image.layers[1].0.digest.to_string()), "{inspected}");
        run(
            "skopeo",
            &["copy", "--insecure-policy", "oci-archive:i.tar:2", "oci:o:t"],
            outer.path(),
        );
        let copied = OciLayout::open(&outer.path().join("o")).expect("open");
        image.check(&copied.image(&Selector::Only, &platform("linux/amd64")).expect("copied"));
    }
}

#[test]
fn a_docker_archive_is_read_by_us_and_by_skopeo() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let image = image(compression, "amd64");
        let out = image.outgoing(&["app:1", "ghcr.io/x/app:2"], "linux/amd64");
        let outer = temporary();
        let path = outer.path().join("i.tar");
        write(&path, |to| write_docker_archive(&packed(std::slice::from_ref(&out)), to));
        let archive = DockerArchive::open(&path).expect("open");
        assert_eq!(archive.names(), ["app:1", "ghcr.io/x/app:2"]);
        for name in ["", "app:1", "docker.io/library/app:1", "ghcr.io/x/app:2"] {
            image.check(&archive.image(&Selector::parse(name)).expect(name));
        }
        image.check(&archive.image(&Selector::Digest(Digest::of(&image.config))).expect("id"));
        assert!(archive.image(&Selector::parse("app:2")).is_err());
        let layout = OciLayout::open(&path).expect("a hybrid");
        image.check(&layout.image(&Selector::parse("1"), &platform("linux/amd64")).expect("1"));
        let copy =
            ["copy", "--insecure-policy", "docker-archive:i.tar:app:1", "docker-archive:o.tar:x:y"];
        run("skopeo", &copy, outer.path());
        // What skopeo writes is the older kind, with symbolic links for old readers.
        let copied = DockerArchive::open(&outer.path().join("o.tar")).expect("open");
        let copied = copied.image(&Selector::parse("x:y")).expect("copied");
        assert_eq!(copied.layers().len(), 2);
        let mut bytes = Vec::new();
        copied.open_layer(1).expect("open").read_to_end(&mut bytes).expect("read");
        assert!(bytes == image.tars[1]);
    }
}

#[test]
fn umoci_unpacks_a_layout_directory() {
    let image = image(Compression::Gzip, "amd64");
    let outer = temporary();
    let at = outer.path().join("layout");
    let first = image.outgoing(&["app:1"], "linux/amd64");
    write_oci_directory(&packed(std::slice::from_ref(&first)), &at).expect("write");
    write_oci_directory(&packed(&[image.outgoing(&["app:2"], "linux/amd64")]), &at).expect("add");
    write_oci_directory(&packed(&[first]), &at).expect("again");
    let layout = OciLayout::open(&at).expect("open");
    assert_eq!(layout.index().manifests.len(), 2);
    image.check(&layout.image(&Selector::parse("app:2"), &platform("linux/amd64")).expect("2"));
    run("umoci", &["unpack", "--rootless", "--image", "layout:1", "bundle"], outer.path());
    let root = outer.path().join("bundle/rootfs");
    assert_eq!(std::fs::read(root.join("etc/motd")).expect("read"), b"amd64");
    assert_eq!(std::fs::read(root.join("s")).expect("read"), b"new");
    assert!(!root.join("etc/old").exists());
    assert_eq!(
        std::os::unix::fs::MetadataExt::nlink(&root.join("etc/zz").metadata().expect("stat")),
        2
    );
}

#[test]
fn an_index_gives_each_platform_its_image() {
    let images = [image(Compression::Gzip, "amd64"), image(Compression::Gzip, "arm64")];
    let out = [
        images[0].outgoing(&["app:1"], "linux/amd64"),
        images[1].outgoing(&["app:1"], "linux/arm64"),
    ];
    let outer = temporary();
    write(&outer.path().join("i.tar"), |to| write_oci_archive(&packed(&out), to));
    let layout = OciLayout::open(&outer.path().join("i.tar")).expect("open");
    assert_eq!(layout.index().manifests.len(), 1);
    for (image, name) in images.iter().zip(["linux/amd64", "linux/arm64"]) {
        image.check(&layout.image(&Selector::parse("1"), &platform(name)).expect(name));
    }
    assert!(layout.image(&Selector::Only, &platform("linux/s390x")).is_err());
    let arm = ["--override-arch", "arm64", "inspect", "oci-archive:i.tar:1"];
    assert!(run("skopeo", &arm, outer.path()).contains("arm64"));
    // Without names there are two images, one for each platform.
    let nameless = out.map(|image| OutgoingImage { names: Vec::new(), ..image });
    write(&outer.path().join("n.tar"), |to| write_oci_archive(&packed(&nameless), to));
    let layout = OciLayout::open(&outer.path().join("n.tar")).expect("open");
    let found = layout.image(&Selector::Only, &platform("linux/arm64")).expect("arm64");
    images[1].check(&found);
}

#[test]
fn refuses_bytes_that_are_not_as_described() {
    let image = image(Compression::Gzip, "amd64");
    let outer = temporary();
    let at = outer.path().join("layout");
    let mut out = image.outgoing(&["app:1"], "linux/amd64");
    write_oci_directory(&packed(std::slice::from_ref(&out)), &at).expect("write");
    let blob = |digest: &Digest| at.join("blobs/sha256").join(digest.hex());
    let layer = blob(&image.layers[0].0.digest);
    let mut bytes = std::fs::read(&layer).expect("read");
    bytes[100] ^= 1;
    std::fs::write(&layer, &bytes).expect("write");
    let layout = OciLayout::open(&at).expect("open");
    let found = layout.image(&Selector::Only, &platform("linux/amd64")).expect("found");
    let mut sink = Vec::new();
    let error = found.open_layer(0).expect("open").read_to_end(&mut sink).expect_err("damaged");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    std::fs::write(&layer, b"short").expect("write");
    assert!(matches!(found.open_layer(0), Err(ImageError::Mismatch { .. })));
    std::fs::remove_file(&layer).expect("remove");
    assert!(found.open_layer(0).err().expect("missing").to_string().contains("missing"));
    std::fs::write(blob(&out.manifest.digest), b"{}").expect("write");
    assert!(layout.image(&Selector::Only, &platform("linux/amd64")).is_err());

    out.layers[0].source = &image.layers[1].1;
    let written = write_oci_archive(&packed(std::slice::from_ref(&out)), &mut Vec::new());
    assert!(matches!(written, Err(ImageError::Mismatch { .. } | ImageError::Io { .. })));
    let bytes = Bytes(vec![0; usize::try_from(out.layers[0].descriptor.size).expect("small")]);
    out.layers[0].source = &bytes;
    let written = write_oci_archive(&packed(std::slice::from_ref(&out)), &mut Vec::new());
    assert!(matches!(written, Err(ImageError::Mismatch { .. })));
}

#[test]
fn says_what_is_wrong_with_a_layout() {
    let outer = temporary();
    let at = outer.path();
    let check = |message: &str| {
        let error = OciLayout::open(at).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    };
    check("`oci-layout`");
    std::fs::write(at.join("oci-layout"), "{\"imageLayoutVersion\":\"2.0.0\"}").expect("write");
    check("2.0.0");
    std::fs::write(at.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("write");
    check("`index.json`");
    std::fs::write(at.join("index.json"), "[".repeat(100_000)).expect("write");
    check("index.json");
    std::fs::File::create(at.join("index.json")).expect("create").set_len(1 << 30).expect("grow");
    check("JSON");
    // An index that names itself by a wrong digest is caught by its digest, one that is too
    // large by its size.
    let digest = Digest::of(b"x");
    let entry = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\
         \"application/vnd.oci.image.index.v1+json\",\"digest\":\"{digest}\",\"size\":1}}]}}"
    );
    std::fs::write(at.join("index.json"), &entry).expect("write");
    std::fs::create_dir_all(at.join("blobs/sha256")).expect("create");
    std::fs::write(at.join("blobs/sha256").join(digest.hex()), &entry).expect("write");
    let layout = OciLayout::open(at).expect("open");
    let found = layout.image(&Selector::Only, &platform("linux/amd64"));
    assert!(matches!(found, Err(ImageError::Mismatch { .. })), "{found:?}");
    std::fs::write(at.join("z.tar.gz"), [0x1f, 0x8b, 8, 0]).expect("write");
    let error = OciLayout::open(&at.join("z.tar.gz")).expect_err("compressed").to_string();
    assert!(error.contains("decompress"), "{error}");
}
