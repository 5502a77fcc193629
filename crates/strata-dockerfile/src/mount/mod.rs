//! `RUN --mount`: options as written, and what they mean once their values are known.
//!
//! Values may hold variables, so [`Mount::resolve`] is for whoever knows them. The parser resolves
//! what has no variables itself, so that mistakes are found before anything runs.

mod csv;
mod spec;

pub use spec::{MountSpec, Sharing};

use crate::diagnostic::Diagnostic;
use crate::expand::ExpandError;
use crate::flags::tail_word;
use crate::suggest::did_you_mean;
use crate::{Span, Word};

/// One `--mount` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The flag's value.
    pub raw: Word,
    /// The options, in order.
    pub options: Vec<MountOption>,
}

/// `key=value` or `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOption {
    /// The key; spellings of the same key are one.
    pub key: MountKey,
    /// The value, unexpanded.
    pub value: Option<Word>,
    /// Key and value.
    pub span: Span,
}

/// The keys of `--mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MountKey {
    /// `type`.
    Type,
    /// `from`.
    From,
    /// `source` or `src`.
    Source,
    /// `target`, `dst` or `destination`.
    Target,
    /// `readonly` or `ro`.
    Readonly,
    /// `readwrite` or `rw`.
    Readwrite,
    /// `required`.
    Required,
    /// `size`.
    Size,
    /// `id`.
    Id,
    /// `sharing`.
    Sharing,
    /// `mode`.
    Mode,
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `env`.
    Env,
}

const KEYS: [(&str, MountKey); 19] = [
    ("type", MountKey::Type),
    ("from", MountKey::From),
    ("source", MountKey::Source),
    ("src", MountKey::Source),
    ("target", MountKey::Target),
    ("dst", MountKey::Target),
    ("destination", MountKey::Target),
    ("readonly", MountKey::Readonly),
    ("ro", MountKey::Readonly),
    ("readwrite", MountKey::Readwrite),
    ("rw", MountKey::Readwrite),
    ("required", MountKey::Required),
    ("size", MountKey::Size),
    ("id", MountKey::Id),
    ("sharing", MountKey::Sharing),
    ("mode", MountKey::Mode),
    ("uid", MountKey::Uid),
    ("gid", MountKey::Gid),
    ("env", MountKey::Env),
];

impl MountKey {
    /// The key's first spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }

    fn is_switch(self) -> bool {
        matches!(self, Self::Readonly | Self::Readwrite | Self::Required)
    }
}

/// Expands the variables of one value.
pub type ExpandValue<'a> = &'a mut dyn FnMut(&str) -> Result<String, ExpandError>;

impl Mount {
    /// Reads the options of a `--mount`; the first mistake is the answer if there is one.
    pub(crate) fn read(raw: Word) -> Result<Self, Box<Diagnostic>> {
        let mut options = Vec::new();
        for field in csv::fields(&raw)? {
            options.push(MountOption::read(&field)?);
        }
        let mount = Self { raw, options };
        if !mount.has_variables() {
            mount.resolve(&mut |value| Ok(value.to_owned()))?;
        }
        Ok(mount)
    }

    /// The value of an option, the last one if it is given twice.
    #[must_use]
    pub fn value(&self, key: MountKey) -> Option<&Word> {
        self.options.iter().rev().find(|option| option.key == key)?.value.as_ref()
    }

    /// What the mount is, once every value but that of `from` went through `expand`.
    ///
    /// # Errors
    ///
    /// A diagnostic about the option that is wrong or does not go with the mount's type.
    pub fn resolve(&self, expand: ExpandValue<'_>) -> Result<MountSpec, Box<Diagnostic>> {
        let mut draft = spec::Draft::default();
        for option in &self.options {
            let value = match &option.value {
                Some(word) if option.key == MountKey::From => Some(word.raw.clone()),
                Some(word) => Some(expand(&word.raw).map_err(|error| {
                    invalid(word.span, format!("cannot expand `{word}`: {error}"))
                })?),
                None => None,
            };
            draft.set(option, value)?;
        }
        draft.finish(self.raw.span)
    }

    fn has_variables(&self) -> bool {
        let values = self.options.iter().filter_map(|option| option.value.as_ref());
        values.into_iter().any(|value| value.raw.contains(['$', '\\', '\'', '"']))
    }
}

impl MountOption {
    fn read(field: &Word) -> Result<Self, Box<Diagnostic>> {
        let (name, value) = match field.raw.split_once('=') {
            Some((name, value)) => (name, Some(tail_word(field, value))),
            None => (field.raw.as_str(), None),
        };
        let folded = name.to_ascii_lowercase();
        let Some((_, key)) = KEYS.into_iter().find(|(known, _)| *known == folded) else {
            let message = format!("unknown mount option `{name}`");
            let hint = did_you_mean(&folded, KEYS.into_iter().map(|(known, _)| known));
            let diagnostic = Diagnostic::error("unknown-mount-option", field.span, message);
            return Err(Box::new(diagnostic.hint_if(hint)));
        };
        if value.is_none() && !key.is_switch() {
            let diagnostic = invalid(field.span, format!("mount option `{name}` needs a value"));
            return Err(Box::new(diagnostic.hint(format!("write `{name}=<value>`"))));
        }
        if let Some(from) = value.as_ref().filter(|_| key == MountKey::From) {
            check_from(from)?;
        }
        Ok(Self { key, value, span: field.span })
    }
}

/// Whose files are mounted must be known before anything is expanded.
fn check_from(from: &Word) -> Result<(), Box<Diagnostic>> {
    let Some((_, tail)) = from.raw.split_once('$') else { return Ok(()) };
    if tail.is_empty() {
        return Ok(());
    }
    let diagnostic = invalid(from.span, "variables are not expanded in `from`".to_owned());
    let hint = "write a stage `FROM <image with the variable> AS <name>` and use its name";
    Err(Box::new(diagnostic.hint(hint)))
}

fn invalid(span: Span, message: String) -> Diagnostic {
    Diagnostic::error("invalid-mount", span, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MountSpec, String> {
        let word = Word { raw: text.to_owned(), span: Span::new(0, text.len()) };
        let mount = Mount::read(word).map_err(|diagnostic| diagnostic.message)?;
        mount.resolve(&mut |value| Ok(value.to_owned())).map_err(|diagnostic| diagnostic.message)
    }

    #[test]
    fn defaults() {
        let bind = MountSpec::Bind {
            from: None,
            source: String::new(),
            target: "/src".to_owned(),
            read_only: true,
        };
        assert_eq!(read("target=/src"), Ok(bind));
        let cache = MountSpec::Cache {
            id: None,
            target: "/c,d".to_owned(),
            from: None,
            source: String::new(),
            sharing: Sharing::Locked,
            mode: 0o755,
            uid: 0,
            gid: 0,
            read_only: false,
        };
        assert_eq!(read("type=cache,\"dst=/c,d\",sharing=LOCKED"), Ok(cache));
        let secret = MountSpec::Secret {
            id: "npm".to_owned(),
            target: Some("/run/secrets/npm".to_owned()),
            env: None,
            required: true,
            mode: 0o400,
            uid: 0,
            gid: 7,
        };
        assert_eq!(read("type=secret,id=npm,required,gid=7"), Ok(secret));
        let tmpfs = MountSpec::Tmpfs { target: "/t".to_owned(), size_bytes: Some(64 << 20) };
        assert_eq!(read("type=tmpfs,target=/t,size=64m"), Ok(tmpfs));
    }

    #[test]
    fn secrets_in_variables_need_no_file() {
        let Ok(MountSpec::Secret { target, env, .. }) = read("type=secret,id=a,env=A") else {
            unreachable!("a secret");
        };
        assert_eq!((target, env), (None, Some("A".to_owned())));
    }

    #[test]
    fn mistakes() {
        let cases = [
            ("", "mount option `` needs a value"),
            ("type=cach,target=/c", "mount option `type` must be one of"),
            ("target", "mount option `target` needs a value"),
            ("required,type=secret,id=a", "mount option `required` is not for"),
            ("type=tmpfs,uid=1", "mount option `uid` is not for mounts of type `tmpfs`"),
            ("type=secret", "a secret mount needs an `id` or a `target`"),
            ("type=cache,target=/c,mode=9", "mount option `mode` must be an octal number"),
            ("sharing=shared,target=/c", "mount option `sharing` is not for"),
            ("a\"b", "bad quotes"),
            ("from=$BASE,target=/a", "variables are not expanded in `from`"),
        ];
        for (text, expected) in cases {
            let message = read(text).err().unwrap_or_default();
            let expected = if text.is_empty() { "unknown mount option ``" } else { expected };
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }
}
