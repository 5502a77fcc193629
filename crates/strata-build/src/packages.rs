//! Which packages an image has, as the databases in it say: dpkg's, apk's, RPM's, those of Python
//! and of Node. Nothing is run, no link is followed, and only those files are read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strata_cas::{Action, BlobId, Item, Layer, TreePath};

use crate::images::{Images, StoredImage};
use crate::{BuildError, encoded, rpm};

/// A database is not read if it is larger than this, in bytes.
const LARGEST_BYTES: u64 = 256 << 20;

/// What is installed in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What it was made from, where it says so.
    pub distribution: Option<Distribution>,
    /// The packages, sorted, each once.
    pub packages: Vec<Package>,
    /// Databases that were not read: where each is, and why.
    pub unread: Vec<(String, &'static str)>,
}

/// A distribution, by its `os-release`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Its `ID`, such as `debian`.
    pub id: String,
    /// Its `VERSION_ID`, such as `12`.
    pub version: Option<String>,
}

/// A package that an image has.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Who manages it: `deb`, `apk`, `rpm`, `pypi` or `npm`, as in package URLs.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its version; RPM's with its release.
    pub version: String,
    /// RPM's epoch.
    pub epoch: Option<u64>,
    /// What it is for, such as `amd64`.
    pub architecture: Option<String>,
    /// The source package that it was built from, if that is called otherwise.
    pub source: Option<String>,
    /// Its licence, in the database's words.
    pub license: Option<String>,
}

impl Package {
    /// Its package URL (<https://github.com/package-url/purl-spec>).
    pub fn url(&self, distribution: Option<&Distribution>) -> String {
        let Self { kind, name, version, architecture, source, .. } = self;
        let is_of_distribution = matches!(*kind, "deb" | "apk" | "rpm");
        let distribution = distribution.filter(|_| is_of_distribution);
        let mut path = match (*kind, name.split_once('/')) {
            ("npm", Some((scope, name))) => format!("{}/{}", encoded(scope), encoded(name)),
            ("pypi", _) => encoded(&name.to_lowercase().replace('_', "-")),
            _ => encoded(name),
        };
        if let Some(Distribution { id, .. }) = distribution {
            path = format!("{}/{path}", encoded(id));
        }
        let of_distribution = distribution.map(|Distribution { id, version }| {
            let version = version.as_ref().map(|version| format!("-{version}"));
            format!("{id}{}", version.unwrap_or_default())
        });
        let epoch = &self.epoch.map(|epoch| epoch.to_string());
        let qualifiers = [
            ("arch", architecture),
            ("distro", &of_distribution),
            ("epoch", epoch),
            ("upstream", source),
        ];
        let qualifiers = qualifiers.iter().filter_map(|(name, value)| {
            value.as_ref().map(|value| format!("{name}={}", encoded(value)))
        });
        let qualifiers: Vec<String> = qualifiers.collect();
        let mark = if qualifiers.is_empty() { "" } else { "?" };
        format!("pkg:{kind}/{path}@{}{mark}{}", encoded(version), qualifiers.join("&"))
    }
}

impl Images<'_> {
    /// What is installed in an image.
    ///
    /// # Errors
    ///
    /// When the store lacks a layer, or it can not be fetched.
    pub fn inventory(&self, image: &StoredImage) -> Result<Inventory, BuildError> {
        let mut found = Files::new();
        for (number, layer) in self.layers(image)?.iter().enumerate() {
            stack(&mut found, number, layer);
        }
        let mut inventory = Inventory::default();
        let mut packages = BTreeSet::new();
        for (path, file) in found {
            let Some(reader) = reader_of(path.as_bytes()) else { continue };
            let unread = match reader {
                _ if file.size > LARGEST_BYTES => Some("it is too large"),
                Reader::None(_) if file.size == 0 => continue,
                Reader::None(why) => Some(why),
                _ => None,
            };
            if let Some(why) = unread {
                inventory.unread.push((path.to_string(), why));
                continue;
            }
            if !self.store().has(&file.blob)? {
                self.shelf().bring(&image.layers[..=file.layer])?;
            }
            let gone = || BuildError::Damaged { what: "layer", reason: format!("/{path} is gone") };
            let bytes = self.store().get(&file.blob)?.ok_or_else(gone)?;
            let text = String::from_utf8_lossy(&bytes);
            match reader {
                // `etc/os-release` comes first, and is what counts if it is a file.
                Reader::Distribution => {
                    inventory.distribution = inventory.distribution.or_else(|| os_release(&text));
                }
                Reader::Packages(read) => packages.extend(read(&text)),
                Reader::Rpm => match rpm::packages(&bytes) {
                    Ok(found) => packages.extend(found),
                    Err(why) => inventory.unread.push((path.to_string(), why)),
                },
                Reader::None(_) => {}
            }
        }
        inventory.packages = packages.into_iter().collect();
        Ok(inventory)
    }
}

/// Databases by their paths.
type Files = BTreeMap<TreePath, Found>;

struct Found {
    layer: usize,
    blob: BlobId,
    size: u64,
}

/// Puts one more layer on those before it.
fn stack(files: &mut Files, number: usize, layer: &Layer) {
    for change in layer.changes() {
        let item = match &change.action {
            Action::Set { item, .. } => Some(item),
            Action::Remove => None,
        };
        match item {
            Some(Item::Directory { opaque: false }) => drop(files.remove(&change.path)),
            _ => remove_below(files, &change.path),
        }
        if reader_of(change.path.as_bytes()).is_none() {
            continue;
        }
        let item = match item {
            Some(Item::HardLink { to }) => match layer.get(to) {
                Some(Action::Set { item, .. }) => Some(item),
                _ => None,
            },
            item => item,
        };
        if let Some(Item::File { blob, size }) = item {
            let found = Found { layer: number, blob: *blob, size: *size };
            files.insert(change.path.clone(), found);
        }
    }
}

fn remove_below(files: &mut Files, path: &TreePath) {
    let below = files.range(path.clone()..).map(|(other, _)| other);
    let below: Vec<TreePath> =
        below.take_while(|other| other.below(path).is_some()).cloned().collect();
    for path in below {
        files.remove(&path);
    }
}

#[derive(Clone, Copy)]
enum Reader {
    Distribution,
    Packages(fn(&str) -> Vec<Package>),
    Rpm,
    /// It is a database, and nobody reads it.
    None(&'static str),
}

/// Where RPM keeps its database.
const RPM_PLACES: [&str; 2] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/"];

fn rpm_reader(name: &str) -> Option<Reader> {
    Some(match name {
        "rpmdb.sqlite" => Reader::Rpm,
        "rpmdb.sqlite-wal" => Reader::None("it has changes that are not in the database yet"),
        "Packages" => Reader::None("it is in RPM's older form, Berkeley DB"),
        "Packages.db" => Reader::None("it is in RPM's form ndb"),
        _ => return None,
    })
}

/// What reads a file, if it is one that says what is installed.
fn reader_of(path: &[u8]) -> Option<Reader> {
    let path = std::str::from_utf8(path).ok()?;
    let name = path.rsplit('/').next()?;
    let of_rpm = RPM_PLACES.iter().find_map(|place| path.strip_prefix(place));
    if let Some(reader) = of_rpm.and_then(rpm_reader) {
        return Some(reader);
    }
    let read: fn(&str) -> Vec<Package> = match name {
        "os-release" if matches!(path, "etc/os-release" | "usr/lib/os-release") => {
            return Some(Reader::Distribution);
        }
        "status" if path == "var/lib/dpkg/status" => dpkg,
        "installed" if path == "lib/apk/db/installed" || path == "usr/lib/apk/db/installed" => apk,
        // Where images without a package manager keep what dpkg would know.
        _ if path.starts_with("var/lib/dpkg/status.d/") && !name.ends_with(".md5sums") => dpkg,
        "METADATA" if path.ends_with(".dist-info/METADATA") => python,
        "PKG-INFO" if path.ends_with(".egg-info/PKG-INFO") => python,
        _ if name.ends_with(".egg-info") => python,
        "package.json" if is_module(path) => npm,
        _ => return None,
    };
    Some(Reader::Packages(read))
}

/// `…/node_modules/NAME/package.json` or `…/node_modules/@SCOPE/NAME/package.json`.
fn is_module(path: &str) -> bool {
    let rest = match path.rsplit_once("/node_modules/") {
        Some((_, rest)) => rest,
        None => path.strip_prefix("node_modules/").unwrap_or_default(),
    };
    let depth = rest.split('/').count();
    depth == 2 || (depth == 3 && rest.starts_with('@'))
}

fn os_release(text: &str) -> Option<Distribution> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(key, _)| *key == name)?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    Some(Distribution { id: value("ID")?, version: value("VERSION_ID") })
}

type Paragraph<'t> = BTreeMap<&'t str, &'t str>;

/// Paragraphs of `Name: value` lines; lines that go on with a space are left out.
fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
        lines.filter_map(|line| line.split_once(':')).map(|(k, v)| (k, v.trim())).collect()
    })
}

fn field(fields: &Paragraph<'_>, name: &str) -> Option<String> {
    fields.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
}

fn dpkg(text: &str) -> Vec<Package> {
    let is_installed = |fields: &Paragraph<'_>| {
        fields.get("Status").is_none_or(|status| status.ends_with(" installed"))
    };
    let package = |fields: Paragraph<'_>| {
        // `Source: glibc (2.36-9)` names the version only where it is another one.
        let source = fields.get("Source").and_then(|source| source.split(' ').next());
        Some(Package {
            kind: "deb",
            name: field(&fields, "Package")?,
            version: field(&fields, "Version")?,
            architecture: field(&fields, "Architecture"),
            source: source.filter(|source| !source.is_empty()).map(str::to_owned),
            ..Package::default()
        })
    };
    paragraphs(text).filter(is_installed).filter_map(package).collect()
}

/// apk's own form: one letter for each field.
fn apk(text: &str) -> Vec<Package> {
    let package = |fields: Paragraph<'_>| {
        let name = field(&fields, "P")?;
        Some(Package {
            kind: "apk",
            version: field(&fields, "V")?,
            architecture: field(&fields, "A"),
            source: field(&fields, "o").filter(|origin| *origin != name),
            license: field(&fields, "L"),
            name,
            epoch: None,
        })
    };
    paragraphs(text).filter_map(package).collect()
}

/// Python's core metadata: what follows the first empty line is a description.
fn python(text: &str) -> Vec<Package> {
    let package = |fields: Paragraph<'_>| {
        Some(Package {
            kind: "pypi",
            name: field(&fields, "Name")?,
            version: field(&fields, "Version")?,
            license: field(&fields, "License-Expression").or_else(|| field(&fields, "License")),
            ..Package::default()
        })
    };
    paragraphs(text).take(1).filter_map(package).collect()
}

fn npm(text: &str) -> Vec<Package> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(name), Some(version)) = (field("name"), field("version")) else { return Vec::new() };
    let license = field("license");
    vec![Package { kind: "npm", name, version, license, ..Package::default() }]
}

#[cfg(test)]
mod tests {
    use strata_cas::{Change, Metadata, Time};

    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let debian = Distribution { id: "debian".to_owned(), version: Some("12".to_owned()) };
        let packages = match reader_of(path.as_bytes()) {
            Some(Reader::Packages(read)) => read(text),
            _ => Vec::new(),
        };
        let urls: Vec<String> = packages.iter().map(|it| it.url(Some(&debian))).collect();
        assert_eq!(urls, expected, "{path}");
    }

    #[test]
    fn databases_are_read() {
        let dpkg = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n\
            Source: glibc (2.36-8)\nVersion: 1:2.36-9+deb12u1\nDescription: it\n more: 1\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let libc = "pkg:deb/debian/libc6@1:2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12\
            &upstream=glibc";
        check("var/lib/dpkg/status", dpkg, &[libc]);
        let one = "pkg:deb/debian/a@1?distro=debian-12";
        check("var/lib/dpkg/status.d/a", "Package: a\nVersion: 1\n", &[one]);
        let apk = "C:Q1x=\nP:musl-utils\nV:1.2.4-r0\nA:x86_64\nL:MIT\no:musl\n\nP:zlib\nV:1.3\n";
        let musl = "pkg:apk/debian/musl-utils@1.2.4-r0?arch=x86_64&distro=debian-12&upstream=musl";
        let zlib = "pkg:apk/debian/zlib@1.3?distro=debian-12";
        check("lib/apk/db/installed", apk, &[musl, zlib]);
        let python = "Metadata-Version: 2.1\nName: Flask_X\nVersion: 3.0\n\nName: no\nVersion: 9\n";
        let flask = ["pkg:pypi/flask-x@3.0"];
        check("usr/lib/python3/site-packages/f.dist-info/METADATA", python, &flask);
        let npm = r#"{"name":"@a/b","version":"1.0.0","license":"MIT"}"#;
        check("app/node_modules/@a/b/package.json", npm, &["pkg:npm/%40a/b@1.0.0"]);
        check("node_modules/c/package.json", npm, &["pkg:npm/%40a/b@1.0.0"]);
        check("app/node_modules/c/lib/package.json", npm, &[]);
        check("app/package.json", npm, &[]);
        check("app/node_modules/c/package.json", "nonsense", &[]);
        check("app/node_modules/c/package.json", "[1]", &[]);
        let alpine = os_release("NAME='Alpine'\nID=alpine\nVERSION_ID=\"3.20\"\n").expect("it");
        assert_eq!((&*alpine.id, alpine.version.as_deref()), ("alpine", Some("3.20")));
        assert_eq!(os_release("NAME=x\n"), None);
    }

    #[test]
    fn what_upper_layers_remove_is_gone() {
        let path = |text: &str| TreePath::new(text).expect("clean");
        let set = |at: &str, item: Item| {
            let action = Action::Set { item, metadata: Metadata::root(0o644), modified: Time(0) };
            Change { path: path(at), action }
        };
        let file = |at: &str| set(at, Item::File { blob: BlobId::of(at.as_bytes()), size: 1 });
        let remove = |at: &str| Change { path: path(at), action: Action::Remove };
        let module = |name: &str| format!("app/node_modules/{name}/package.json");
        let mut files = Files::new();
        let link = Item::HardLink { to: path(&module("a")) };
        let lowest = vec![file(&module("a")), set(&module("b"), link), file(&module("c"))];
        stack(&mut files, 0, &Layer::new(lowest));
        assert_eq!(files.len(), 3);
        stack(&mut files, 1, &Layer::new(vec![remove("app/node_modules/a")]));
        let opaque = Item::Directory { opaque: true };
        let emptied = vec![set("app/node_modules/b", opaque), file("app/node_modules/b/other")];
        stack(&mut files, 2, &Layer::new(emptied));
        let left: Vec<String> = files.keys().map(TreePath::to_string).collect();
        assert_eq!(left, [module("c")]);
        let here = Item::Symlink { target: b"x".to_vec() };
        stack(&mut files, 3, &Layer::new(vec![set("app", here)]));
        assert!(files.is_empty());
    }
}
