//! What in a context hardly belongs into an image: repositories, installed dependencies, secrets.
//! Names decide; of files that may be a certificate or a private key, their first bytes.

use std::io::Read;
use std::path::Path;

use strata_cas::TreePath;
use strata_dockerfile::{Shipped, ShippedKind};
use strata_scan::{Glob, IgnoreRules};

/// A check is not to take longer than a look: what is beyond so many entries is not seen.
const ENTRIES_MAX: usize = 200_000;
/// So many things are told, no more.
const FOUND_MAX: usize = 100;

/// All of it that the ignore file does not leave out, in the order of the paths.
pub(super) fn find(root: &Path, rules: &IgnoreRules) -> Vec<Shipped> {
    let mut search = Search { root, rules, left: ENTRIES_MAX, found: Vec::new() };
    search.directory(&TreePath::ROOT);
    search.found.sort_by(|one, other| one.path.cmp(&other.path));
    search.found
}

/// Those that a source of `COPY` or `ADD` takes along.
pub(super) fn taken(found: &[Shipped], source: &str) -> Vec<Shipped> {
    let clean = TreePath::normalise(source.as_bytes()).to_string();
    let Ok(glob) = Glob::new(clean.as_bytes()) else { return Vec::new() };
    let takes = |each: &&Shipped| {
        let path = TreePath::normalise(each.path.as_bytes());
        std::iter::successors(Some(path), TreePath::parent).any(|path| glob.matches(&path))
    };
    found.iter().filter(takes).cloned().collect()
}

struct Search<'a> {
    root: &'a Path,
    rules: &'a IgnoreRules,
    left: usize,
    found: Vec<Shipped>,
}

impl Search<'_> {
    /// What can not be read is the build's to complain about.
    fn directory(&mut self, directory: &TreePath) {
        let at = self.root.join(directory.to_string());
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            if self.left == 0 || self.found.len() == FOUND_MAX {
                return;
            }
            self.left -= 1;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Ok(path) = directory.child(name.as_bytes()) else { continue };
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_excluded = self.rules.excludes(&path);
            let what = match is_directory {
                true => of_directory(name),
                false => of_file(name, &entry.path()),
            };
            match what {
                Some(what) if !is_excluded => {
                    self.found.push(Shipped { path: path.to_string(), what });
                }
                _ if is_directory && (!is_excluded || self.rules.may_include_below(&path)) => {
                    self.directory(&path);
                }
                _ => {}
            }
        }
    }
}

fn of_directory(name: &str) -> Option<ShippedKind> {
    match name {
        ".git" | ".hg" | ".svn" => Some(ShippedKind::Repository),
        "node_modules" => Some(ShippedKind::Dependencies),
        _ => None,
    }
}

fn of_file(name: &str, path: &Path) -> Option<ShippedKind> {
    const NAMES: [&str; 14] = [
        ".env",
        ".git-credentials",
        ".htpasswd",
        ".netrc",
        ".pgpass",
        ".pypirc",
        ".vault-token",
        "_netrc",
        "credentials.json",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "id_rsa",
        "secrets.json",
    ];
    const EXTENSIONS: [&str; 5] = ["jks", "kdbx", "keystore", "p12", "pfx"];
    const SAMPLES: [&str; 6] = ["default", "dist", "example", "sample", "template", "test"];
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let of_environment = name.starts_with(".env.") && !SAMPLES.contains(&extension);
    let in_folder = |folder: &str| {
        path.parent().and_then(Path::file_name).is_some_and(|parent| parent == folder)
    };
    let is_secret = NAMES.contains(&name)
        || EXTENSIONS.contains(&extension)
        || of_environment
        || name == "credentials" && in_folder(".aws")
        || name == "config.json" && in_folder(".docker")
        || name == "config" && in_folder(".kube")
        || matches!(extension, "pem" | "key") && has_private_key(path);
    is_secret.then_some(ShippedKind::Secret)
}

fn has_private_key(path: &Path) -> bool {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map(|file| file.take(4 << 10));
    let read = file.and_then(|mut file| file.read_to_end(&mut start));
    let marker = b"PRIVATE KEY";
    read.is_ok() && start.windows(marker.len()).any(|part| part == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_and_which_source_takes_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        for name in [".env", ".env.example", ".git/config", "web/node_modules/a/.env", "a/id_rsa"] {
            write(name, "x");
        }
        write("tls/ca.pem", "-----BEGIN CERTIFICATE-----");
        write("tls/server.pem", "-----BEGIN RSA PRIVATE KEY-----");
        write(".aws/credentials", "x");
        write("docs/credentials", "x");
        let paths = |rules: &str| -> Vec<String> {
            let rules = IgnoreRules::parse(rules.as_bytes()).expect("rules");
            find(directory.path(), &rules).into_iter().map(|each| each.path).collect()
        };
        let all = [".aws/credentials", ".env", ".git", "a/id_rsa", "tls/server.pem"];
        assert_eq!(paths(""), [&all[..], &["web/node_modules"]].concat());
        assert_eq!(paths("**/.git\n.*\na\n!a/id_rsa\ntls\n**/node_modules"), ["a/id_rsa"]);
        let found = find(directory.path(), &IgnoreRules::parse(b"").expect("rules"));
        let count = |source: &str| taken(&found, source).len();
        assert_eq!(
            [".", "/", "./a/", "a/id_*", "t*", "web/x", "*"].map(count),
            [6, 6, 1, 1, 1, 0, 6]
        );
    }
}
