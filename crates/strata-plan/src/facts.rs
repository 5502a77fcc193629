//! What of a step enters its key, in words: the plan's part of `docs/cache-keys.md`.
//!
//! Never here: proxies, secrets' values, what cache mounts hold, resource limits, where the
//! context lies. The accident that taught it: a builder whose keys had the umask of the checkout
//! and the host's addresses in them, and missed on every second machine.

use strata_cas::Fact;
use strata_dockerfile::{Network, Security, Sharing};

use crate::{Chmod, CopyOp, GitSource, MakeDirectoryOp, RemoteSource, RunMount, RunOp};

/// Which edition of this program's rules the facts are under. It is another one as soon as the same
/// facts give another tree than before, such as when a COPY is made more like BuildKit's: what an
/// older strata has left in a store is no answer then.
fn edition() -> Fact {
    Fact::text("edition of strata's rules", "4")
}

impl RunOp {
    /// What its result depends on, besides the root that it starts from and the files that its
    /// mounts bring.
    pub fn facts(&self) -> Vec<Fact> {
        let Self {
            argv,
            script,
            env,
            proxies: _,
            cwd,
            user,
            hostname,
            network,
            security,
            mounts,
            platform,
        } = self;
        let mut facts = vec![
            Fact::text("kind", "run"),
            edition(),
            Fact::text("command", list(argv)),
            Fact::text("working directory", cwd),
            Fact::text("user", user),
            Fact::text("platform", platform.to_string()),
        ];
        if let Some(script) = script {
            facts.push(Fact::text("script", &script.body));
        }
        facts.extend(env.iter().map(|(name, value)| Fact::text(format!("env {name}"), value)));
        if let Some(hostname) = hostname {
            facts.push(Fact::text("hostname", hostname));
        }
        if *network != Network::Default {
            facts.push(Fact::text("network", format!("{network:?}").to_lowercase()));
        }
        if *security == Security::Insecure {
            facts.push(Fact::text("security", "insecure"));
        }
        let mounts = mounts.iter().enumerate();
        facts.extend(
            mounts.map(|(number, mount)| Fact::text(format!("mount {number}"), mount.fact())),
        );
        facts
    }
}

impl RunMount {
    /// Target, kind and identity; what is mounted is an input of its own.
    fn fact(&self) -> String {
        match self {
            Self::Bind { from: _, source: _, target, read_only } => {
                list(&["bind", target, if *read_only { "ro" } else { "rw" }])
            }
            Self::Cache { id, target, seed: _, sharing, mode, uid, gid, read_only } => list(&[
                "cache",
                target,
                id,
                match sharing {
                    Sharing::Shared => "shared",
                    Sharing::Private => "private",
                    Sharing::Locked => "locked",
                },
                &format!("{mode:o} {uid}:{gid}"),
                if *read_only { "ro" } else { "rw" },
            ]),
            Self::Tmpfs { target, size_bytes } => {
                let size = size_bytes.map(|size| size.to_string()).unwrap_or_default();
                list(&["tmpfs", target, &size])
            }
            Self::Secret { id, target, env, required: _, mode, uid, gid } => list(&[
                "secret",
                id,
                target.as_deref().unwrap_or_default(),
                env.as_deref().unwrap_or_default(),
                &format!("{mode:o} {uid}:{gid}"),
            ]),
            Self::Ssh { id, target, required: _, mode, uid, gid } => list(&[
                "ssh",
                id,
                target.as_deref().unwrap_or_default(),
                &format!("{mode:o} {uid}:{gid}"),
            ]),
        }
    }
}

impl CopyOp {
    /// What its result depends on, besides the root that it is laid over and the files that it
    /// selects. Owners and modes are part of those files (their effective ones), unless they
    /// depend on the root.
    pub fn facts(&self) -> Vec<Fact> {
        let Self {
            from: _,
            sources,
            inline: _,
            dest,
            chown,
            chmod,
            exclude: _,
            parents: _,
            link,
            unpack,
            is_add: _,
        } = self;
        let mut facts =
            vec![Fact::text("kind", "copy"), edition(), Fact::text("destination", dest)];
        if *link {
            facts.push(Fact::text("link", "yes"));
        }
        if *unpack {
            facts.push(Fact::text("unpack", "yes"));
        }
        let unpacked = sources.iter().enumerate().filter(|(_, source)| {
            matches!(&source.remote, Some(RemoteSource::Http(source)) if source.unpack)
        });
        facts.extend(
            unpacked.map(|(number, _)| Fact::text(format!("unpack download {number}"), "yes")),
        );
        // What is copied as it is has modes and owners in the selection, the directories that are
        // made on the way have not. Flags that give these what they would have anyway do not count.
        let is_plain = !*unpack && sources.iter().all(|source| source.remote.is_none());
        let directory_mode = chmod.as_ref().map(|chmod| match chmod {
            Chmod::Octal(mode) if is_plain => mode & 0o755,
            Chmod::Symbolic(_) if is_plain => 0o755,
            chmod => chmod.apply(0o755, true),
        });
        if let Some(mode) = directory_mode.filter(|mode| !is_plain || *mode != 0o755) {
            facts.push(Fact::text("directory mode", format!("{mode:o}")));
        }
        if let Some(owner) = self.numeric_owner().filter(|owner| !is_plain || *owner != (0, 0)) {
            facts.push(Fact::text("directory owner", format!("{}:{}", owner.0, owner.1)));
        }
        if let Some(chown) = chown.as_ref().filter(|chown| !is_numeric(chown)) {
            facts.push(Fact::text("chown", chown));
        }
        facts
    }

    /// What stands in the key for files of a repository, which are not there before the step
    /// runs: the commit has them all, and what the other flags make of them follows from it.
    pub fn repository_facts(&self, number: usize, source: &GitSource, commit: &str) -> Vec<Fact> {
        // Where the repository lies, and by which name the commit was asked for, does not count.
        let GitSource {
            remote: _,
            reference: _,
            subdirectory,
            checksum: _,
            keep_git_dir,
            submodules,
        } = source;
        let options = [("with `.git`", *keep_git_dir), ("without submodules", !*submodules)];
        let options = options.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        let flags = [format!("{:?}", self.chmod), list(&self.exclude)];
        vec![
            Fact::text(format!("commit {number}"), commit),
            Fact::text(format!("commit {number} directory"), subdirectory),
            Fact::text(format!("commit {number} options"), options.collect::<Vec<_>>().join(", ")),
            Fact::text(format!("commit {number} flags"), flags.join(" ")),
        ]
    }

    /// The owner that `--chown` gives without looking into the root: numbers only.
    pub fn numeric_owner(&self) -> Option<(u32, u32)> {
        let chown = self.chown.as_ref().filter(|chown| is_numeric(chown))?;
        let (user, group) = chown.split_once(':').unwrap_or((chown, chown));
        Some((user.parse().ok()?, group.parse().ok()?))
    }
}

fn is_numeric(chown: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    match chown.split_once(':') {
        Some((user, group)) => number(user) && number(group),
        None => number(chown),
    }
}

impl Chmod {
    /// The mode that a path gets which had `mode`.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(text) => {
                let before = Before { mode, is_directory };
                text.split(',').fold(mode, |mode, clause| apply_clause(clause, mode, before))
            }
        }
    }
}

/// What a path was before anything of its mode changed: `X` looks at that, whatever the clauses
/// before it did.
#[derive(Clone, Copy)]
struct Before {
    mode: u32,
    is_directory: bool,
}

/// One clause of a symbolic mode, such as `go+rX`.
fn apply_clause(clause: &str, mode: u32, before: Before) -> u32 {
    let who_end = clause.find(['+', '-', '=']).unwrap_or(clause.len());
    let (who, mut rest) = clause.split_at(who_end);
    let who: u32 = match who {
        "" => 0o777,
        who => who.bytes().fold(0, |mask, byte| {
            mask | match byte {
                b'u' => 0o700,
                b'g' => 0o070,
                b'o' => 0o007,
                _ => 0o777,
            }
        }),
    };
    let mut mode = mode;
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let permissions = &rest[1..end];
        let bits = permission_bits(permissions, mode, before);
        let special = special_bits(permissions, who);
        let wanted = (bits & who) | special;
        mode = match operator {
            '+' => mode | wanted,
            '-' => mode & !wanted,
            // As BSD's chmod: what is copied leaves the set-id bits, what is written clears them.
            _ if permissions.contains(['u', 'g', 'o']) => (mode & !who) | wanted,
            _ => (mode & !who & !set_id_bits(who)) | wanted,
        };
        rest = &rest[end..];
    }
    mode & 0o7777
}

/// The permissions for everybody; who gets them is a mask over it.
fn permission_bits(permissions: &str, mode: u32, before: Before) -> u32 {
    permissions.bytes().fold(0, |bits, byte| {
        let copied = |class: u32| (class & 7) * 0o111;
        bits | match byte {
            b'r' => 0o444,
            b'w' => 0o222,
            b'x' => 0o111,
            b'X' if before.is_directory || before.mode & 0o111 != 0 => 0o111,
            b'u' => copied(mode >> 6),
            b'g' => copied(mode >> 3),
            b'o' => copied(mode),
            _ => 0,
        }
    })
}

fn special_bits(permissions: &str, who: u32) -> u32 {
    let set_id = if permissions.contains('s') { set_id_bits(who) } else { 0 };
    // For others alone, there is no such thing.
    let sticky = if permissions.contains('t') && who != 0o007 { 0o1000 } else { 0 };
    set_id | sticky
}

fn set_id_bits(who: u32) -> u32 {
    (who & 0o100) << 5 | (who & 0o010) << 7
}

impl MakeDirectoryOp {
    /// What its result depends on, besides the root that it starts from.
    pub fn facts(&self) -> Vec<Fact> {
        let Self { path, user } = self;
        vec![
            Fact::text("kind", "make directory"),
            edition(),
            Fact::text("destination", path),
            Fact::text("user", user),
        ]
    }
}

/// A list as JSON: unambiguous, and readable in an explanation.
fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    serde_json::to_string(&items).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_are_chmods() {
        let check = |text: &str, mode: u32, is_directory: bool, expected: u32| {
            let result = Chmod::Symbolic(text.to_owned()).apply(mode, is_directory);
            assert_eq!(result, expected, "{text} of {mode:o} gave {result:o}");
        };
        check("u=rwX,go=rX", 0o600, false, 0o644);
        check("u=rwX,go=rX", 0o600, true, 0o755);
        check("u=rwx,g=rX", 0o644, false, 0o744);
        check("a-x,a+X", 0o700, false, 0o711);
        check("u+x,a+X", 0o644, false, 0o744);
        check("-x+X", 0o700, false, 0o711);
        check("u=rw,go=X", 0o700, false, 0o611);
        check("+x", 0o644, false, 0o755);
        check("go-w", 0o666, false, 0o644);
        check("u+s,g+s", 0o755, false, 0o6755);
        check("a=r,u+w", 0o777, false, 0o644);
        check("g=u", 0o640, false, 0o660);
        check("+t", 0o777, true, 0o1777);
    }
}
