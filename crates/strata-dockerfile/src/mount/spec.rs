//! What a mount is once its values are known: its type decides what the other options mean.

use super::{MountKey, MountOption, invalid};
use crate::Span;
use crate::diagnostic::Diagnostic;
use crate::suggest::did_you_mean;

/// What a mount is, its defaults filled in. Paths are as written: an empty or relative target is
/// below the working directory, an empty source is the root of what is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSpec {
    /// A directory of the context, a stage or an image. Writes are lost.
    Bind {
        /// The stage, image or named context; the build context if not given.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Where to.
        target: String,
        /// Whether writing fails.
        read_only: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name; the cleaned target if not given.
        id: Option<String>,
        /// Where to.
        target: String,
        /// What an empty cache begins as.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// What happens when two steps want it at once.
        sharing: Sharing,
        /// The mode of a new cache's root.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Whether writing fails.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Where to.
        target: String,
        /// The most it holds, in bytes.
        size_bytes: Option<u64>,
    },
    /// A secret of the build's caller.
    Secret {
        /// Its name.
        id: String,
        /// The file; not given if only a variable is wanted.
        target: Option<String>,
        /// The variable, if wanted.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// The file's mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The caller's ssh agent.
    Ssh {
        /// Its name.
        id: String,
        /// The socket; `/run/buildkit/ssh_agent.N` if not given.
        target: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// The socket's mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// What happens when two steps want the same cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Both get it.
    #[default]
    Shared,
    /// The second gets one of its own.
    Private,
    /// The second waits.
    Locked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

impl MountType {
    fn as_str(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// The mount while its options are read.
#[derive(Default)]
pub(super) struct Draft {
    kind: MountType,
    from: Option<String>,
    source: String,
    target: String,
    read_only: Option<bool>,
    required: bool,
    size_bytes: Option<u64>,
    id: String,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Draft {
    /// Takes one option, whose value was expanded.
    pub(super) fn set(
        &mut self,
        option: &MountOption,
        value: Option<String>,
    ) -> Result<(), Box<Diagnostic>> {
        self.check_type(option)?;
        let text = value.as_deref().unwrap_or("true");
        match option.key {
            MountKey::Type => self.kind = pick(option, text, &TYPES)?,
            MountKey::From => self.from = value.filter(|from| !from.is_empty()),
            MountKey::Source => self.source = value.unwrap_or_default(),
            MountKey::Target => self.target = value.unwrap_or_default(),
            MountKey::Readonly => self.read_only = Some(boolean(option, text)?),
            MountKey::Readwrite => self.read_only = Some(!boolean(option, text)?),
            MountKey::Required => self.required = boolean(option, text)?,
            MountKey::Size => {
                let size = size_bytes(text);
                self.size_bytes = Some(size.ok_or_else(|| bad(option, text, "a size"))?);
            }
            MountKey::Id => self.id = value.unwrap_or_default(),
            MountKey::Sharing => self.sharing = Some(pick(option, text, &SHARINGS)?),
            MountKey::Mode => self.mode = Some(number(option, text, 8)?),
            MountKey::Uid => self.uid = Some(number(option, text, 10)?),
            MountKey::Gid => self.gid = Some(number(option, text, 10)?),
            MountKey::Env => self.env = value,
        }
        Ok(())
    }

    /// Whether an option goes with what the options before it made of the mount.
    fn check_type(&self, option: &MountOption) -> Result<(), Box<Diagnostic>> {
        let fits = match option.key {
            MountKey::Required => matches!(self.kind, MountType::Secret | MountType::Ssh),
            MountKey::Size => self.kind == MountType::Tmpfs,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let (key, kind) = (option.key.as_str(), self.kind.as_str());
        let message = format!("mount option `{key}` is not for mounts of type `{kind}`");
        Err(Box::new(invalid(option.span, message).hint("write `type=` before the other options")))
    }

    fn check(&self, span: Span) -> Result<(), Box<Diagnostic>> {
        let kind = self.kind.as_str();
        let owned = matches!(self.kind, MountType::Secret | MountType::Ssh | MountType::Cache);
        let owners = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        let owner = owners.iter().find(|(_, value)| value.is_some() && !owned);
        let secret = self.kind == MountType::Secret;
        let nameless = self.source.is_empty() && self.target.is_empty() && self.id.is_empty();
        let message = if let Some((key, _)) = owner {
            format!("mount option `{key}` is not for mounts of type `{kind}`")
        } else if secret && self.from.is_some() {
            "mount option `from` is not for mounts of type `secret`".to_owned()
        } else if self.sharing.is_some() && self.kind != MountType::Cache {
            format!("mount option `sharing` is not for mounts of type `{kind}`")
        } else if secret && nameless {
            "a secret mount needs an `id` or a `target`".to_owned()
        } else if secret && !self.source.is_empty() && !self.id.is_empty() {
            "a secret mount takes `id` or `source`, not both".to_owned()
        } else {
            return Ok(());
        };
        Err(Box::new(invalid(span, message)))
    }

    /// The mount, if its options go together.
    pub(super) fn finish(self, span: Span) -> Result<MountSpec, Box<Diagnostic>> {
        self.check(span)?;
        let (uid, gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        let mode = |default: u32| self.mode.unwrap_or(default);
        Ok(match self.kind {
            MountType::Bind => MountSpec::Bind {
                read_only: self.read_only.unwrap_or(true),
                from: self.from,
                source: self.source,
                target: self.target,
            },
            MountType::Cache => MountSpec::Cache {
                mode: mode(0o755),
                id: Some(self.id).filter(|id| !id.is_empty()),
                target: self.target,
                from: self.from,
                source: self.source,
                sharing: self.sharing.unwrap_or_default(),
                uid,
                gid,
                read_only: self.read_only.unwrap_or(false),
            },
            MountType::Tmpfs => {
                MountSpec::Tmpfs { target: self.target, size_bytes: self.size_bytes }
            }
            MountType::Secret => MountSpec::Secret {
                mode: mode(0o400) & 0o777,
                id: self.secret_id(),
                target: self.secret_target(),
                required: self.required,
                env: self.env,
                uid,
                gid,
            },
            MountType::Ssh => MountSpec::Ssh {
                mode: mode(0o600) & 0o777,
                id: first_of([self.id, self.source, "default".to_owned()]),
                target: Some(self.target).filter(|target| !target.is_empty()),
                required: self.required,
                uid,
                gid,
            },
        })
    }

    fn secret_id(&self) -> String {
        let base = base_name(&self.target).to_owned();
        first_of([self.source.clone(), self.id.clone(), base])
    }

    fn secret_target(&self) -> Option<String> {
        if !self.target.is_empty() {
            return Some(self.target.clone());
        }
        let unnamed = || format!("/run/secrets/{}", base_name(&self.secret_id()));
        self.env.is_none().then(unnamed)
    }
}

fn first_of(names: [String; 3]) -> String {
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn bad(option: &MountOption, value: &str, wanted: &str) -> Box<Diagnostic> {
    let key = option.key.as_str();
    let message = format!("mount option `{key}` must be {wanted}, not `{value}`");
    Box::new(invalid(option.span, message))
}

fn pick<T: Copy>(
    option: &MountOption,
    value: &str,
    known: &[(&'static str, T)],
) -> Result<T, Box<Diagnostic>> {
    let folded = value.to_ascii_lowercase();
    let found = known.iter().find(|(name, _)| *name == folded);
    found.map(|(_, picked)| *picked).ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hint = did_you_mean(value, known.iter().map(|(name, _)| *name));
        let diagnostic = bad(option, value, &format!("one of {}", names.join(", ")));
        Box::new(diagnostic.hint_if(hint))
    })
}

/// Go's `strconv.ParseBool`.
fn boolean(option: &MountOption, value: &str) -> Result<bool, Box<Diagnostic>> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(bad(option, other, "`true` or `false`")),
    }
}

fn number(option: &MountOption, value: &str, radix: u32) -> Result<u32, Box<Diagnostic>> {
    let wanted = if radix == 8 { "an octal number" } else { "a number" };
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    parsed.ok_or_else(|| bad(option, value, wanted))
}

/// `64m`, `1.5g`, `1GiB`: docker's sizes, in powers of 1024.
fn size_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &lower[digits.len()..];
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = digits.trim_end_matches(' ').split_once('.').unwrap_or((digits, "0"));
    let whole: u64 = whole.trim_end().parse().ok()?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) << shift;
    let part = u64::try_from(part / u128::from(scale)).ok()?;
    whole.checked_mul(1_u64 << shift)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("1.5 GiB", Some(3 << 29)),
            ("2kb", Some(2048)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("99999999999999999p", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size_bytes(text), expected, "{text}");
        }
    }
}
