//! `--secret` and `--ssh`, in Docker's little language: what is lent to the build, read before
//! anything runs. A secret's value goes from its file or variable into a
//! [`Secret`](strata_exec::Secret) and nowhere else.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use strata_build::Credentials;
use strata_exec::Secret;

use super::options::unknown;
use crate::arguments::CredentialArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::ssh_agent::KeyAgent;

/// BuildKit's limit: what is larger is no secret, but a file that should be copied.
const SECRET_BYTES_MAX: u64 = 500 << 10;
const SECRET_KEYS: [&str; 5] = ["id", "src", "source", "env", "type"];

/// What is lent, and the agents that were started for it: they end when it is dropped.
#[derive(Default)]
pub(crate) struct Lent {
    pub(crate) credentials: Credentials,
    agents: Vec<KeyAgent>,
}

/// Reads all secrets and finds or starts all agents.
pub(crate) fn credentials(
    arguments: &CredentialArguments,
    environment: &Environment,
) -> Result<Lent, Failure> {
    let mut lent = Lent::default();
    for text in &arguments.secrets {
        let (id, source) = SecretSource::parse(text, environment)?;
        if let Some(value) = source.read(text, environment)? {
            lent.credentials.add_secret(id, Secret::new(value));
        }
    }
    for text in &arguments.ssh {
        lent.agent(text, environment)?;
    }
    Ok(lent)
}

/// Where a secret comes from.
#[derive(Debug, PartialEq, Eq)]
enum SecretSource {
    File(PathBuf),
    Variable(String),
}

impl SecretSource {
    /// As buildx understands it: without `src` and `env`, the id names a variable or else a file.
    fn parse(text: &str, environment: &Environment) -> Result<(String, Self), Failure> {
        let invalid = |why: String| Failure::usage(format!("`--secret {text}`: {why}"));
        let (mut id, mut path, mut variable, mut kind) = (None, None, None, None);
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(invalid(format!("`{field}` has no `=`"))
                    .hint("such as `--secret id=token,src=token.txt` or `id=token,env=TOKEN`"));
            };
            let place = match key.trim().to_ascii_lowercase().as_str() {
                "id" => &mut id,
                "src" | "source" => &mut path,
                "env" => &mut variable,
                "type" => &mut kind,
                other => return Err(unknown("key of `--secret`", other, &SECRET_KEYS)),
            };
            if place.replace(value.to_owned()).is_some() {
                return Err(invalid(format!("`{key}` is there twice")));
            }
        }
        let id =
            id.filter(|id| !id.is_empty()).ok_or_else(|| invalid("`id=` is missing".into()))?;
        match kind.as_deref() {
            None | Some("file" | "env") => {}
            Some(other) => return Err(unknown("type of `--secret`", other, &["file", "env"])),
        }
        if kind.as_deref() == Some("env") {
            variable = variable.or_else(|| path.take());
        }
        let source = match (path, variable) {
            (Some(_), Some(_)) => return Err(invalid("it has both `src` and `env`".into())),
            (Some(path), None) => Self::File(PathBuf::from(path)),
            (None, Some(variable)) => Self::Variable(variable),
            (None, None) if environment.bytes(&id).is_some() => Self::Variable(id.clone()),
            (None, None) => Self::File(PathBuf::from(&id)),
        };
        Ok((id, source))
    }

    /// The value; none for a variable that is not set, as with BuildKit.
    fn read(&self, text: &str, environment: &Environment) -> Result<Option<Vec<u8>>, Failure> {
        let path = match self {
            Self::Variable(name) => {
                return Ok(environment.bytes(name).map(OsStringExt::into_vec));
            }
            Self::File(path) => path,
        };
        let failed = |error| Failure::file("read the secret", path, &error);
        let file = std::fs::File::open(path).map_err(failed)?;
        // All at once: growing would leave pieces of it in memory that nobody overwrites.
        let mut value = Vec::with_capacity(usize::try_from(SECRET_BYTES_MAX).unwrap_or(0) + 1);
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut value).map_err(failed)?;
        if value.len() as u64 > SECRET_BYTES_MAX {
            let message = format!("`--secret {text}`: the secret is larger than 500 KiB");
            return Err(Failure::usage(message).hint("COPY the file, or mount it with `type=bind`"));
        }
        Ok(Some(value))
    }
}

impl Lent {
    /// `default`, `ID=SOCKET` or `ID=KEY[,KEY]`.
    fn agent(&mut self, text: &str, environment: &Environment) -> Result<(), Failure> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let invalid = |why: String| Failure::usage(format!("`--ssh {text}`: {why}"));
        if id.is_empty() {
            return Err(invalid("the id is missing".into()).hint("such as `--ssh default`"));
        }
        let paths: Vec<&Path> =
            paths.split(',').filter(|path| !path.is_empty()).map(Path::new).collect();
        if paths.is_empty() {
            let Some(socket) = environment.path("SSH_AUTH_SOCK") else {
                return Err(invalid("there is no agent: `SSH_AUTH_SOCK` is not set".into()).hint(
                    "start one with `eval \"$(ssh-agent)\"`, or name a key: `--ssh ID=PATH`",
                ));
            };
            return self.socket(id, &socket, &invalid);
        }
        let is_socket =
            |path: &&Path| path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
        match paths.iter().filter(|path| is_socket(path)).count() {
            0 => {
                let agent = KeyAgent::start(&paths)?;
                self.credentials.add_agent(id, agent.socket());
                self.agents.push(agent);
                Ok(())
            }
            1 if paths.len() == 1 => self.socket(id, paths[0], &invalid),
            _ => Err(invalid("one agent's socket, or keys: not both".into())),
        }
    }

    fn socket(
        &mut self,
        id: &str,
        socket: &Path,
        invalid: &dyn Fn(String) -> Failure,
    ) -> Result<(), Failure> {
        let answer = std::os::unix::net::UnixStream::connect(socket);
        answer.map_err(|error| {
            let why = crate::failure::plain(&error);
            invalid(format!("no agent answers at `{}`: {why}", socket.display()))
        })?;
        let absolute = std::path::absolute(socket);
        let absolute = absolute.map_err(|error| Failure::file("find", socket, &error))?;
        self.credentials.add_agent(id, absolute);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_understood_as_buildx_does() {
        let environment: Environment =
            [("TOKEN", "t"), ("id2", "x"), ("EMPTY", "")].into_iter().collect();
        let check = |text: &str, expected: Result<(&str, SecretSource), &str>| {
            let answer = SecretSource::parse(text, &environment);
            let expected = expected.map(|(id, source)| (id.to_owned(), source));
            let message = |failure: Failure| failure.message;
            match (answer.map_err(message), expected) {
                (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "{text}"),
                (Err(answer), Err(expected)) => assert!(answer.contains(expected), "{answer}"),
                (answer, _) => unreachable!("{text}: {answer:?}"),
            }
        };
        let file = |path: &str| SecretSource::File(PathBuf::from(path));
        let variable = |name: &str| SecretSource::Variable(name.to_owned());
        check("id=a,src=f", Ok(("a", file("f"))));
        check("id=a,source=f,type=file", Ok(("a", file("f"))));
        check("id=a,env=TOKEN", Ok(("a", variable("TOKEN"))));
        check("type=env,id=a,src=TOKEN", Ok(("a", variable("TOKEN"))));
        check("id=id2", Ok(("id2", variable("id2"))));
        check("id=a", Ok(("a", file("a"))));
        check("src=f", Err("`id=` is missing"));
        check("id=a,src=f,env=b", Err("both `src` and `env`"));
        check("id=a,type=vault", Err("vault"));
        check("id=a,file=f", Err("file"));
        check("token", Err("`token` has no `=`"));
        let read = |name: &str| variable(name).read("", &environment).expect("read");
        assert_eq!(read("TOKEN").as_deref(), Some(&b"t"[..]));
        assert_eq!((read("EMPTY").as_deref(), read("NONE")), (Some(&b""[..]), None));
    }
}
