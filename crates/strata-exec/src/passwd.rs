//! Who `USER name` is: Docker's rules over the image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are the image's, so their lines may be anything: what does not parse is skipped.

use crate::{ExecError, User, View};

/// Far more than any real user database.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Ids beyond this are refused, as Docker does.
const ID_MAX: u32 = i32::MAX as u32;

/// A user or group that is not to be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswdError {
    /// No such name, and no number either.
    #[error("unable to find user `{0}`: no matching entry in the image's passwd file")]
    NoUser(String),
    /// No such name, and no number either.
    #[error("unable to find group `{0}`: no matching entry in the image's group file")]
    NoGroup(String),
    /// A number that is no id.
    #[error("`{0}` is not a user or group id between 0 and 2147483647")]
    Range(String),
}

/// Finds out who `text` is: `name`, `uid`, `name:group`, `uid:gid` or nothing, which is root.
pub fn resolve(view: &View, text: &str) -> Result<User, ExecError> {
    let passwd = view.read("/etc/passwd", FILE_BYTES_MAX)?.unwrap_or_default();
    let group = view.read("/etc/group", FILE_BYTES_MAX)?.unwrap_or_default();
    let (passwd, group) = (String::from_utf8_lossy(&passwd), String::from_utf8_lossy(&group));
    Ok(resolve_in(&passwd, &group, text)?)
}

/// Who gets what is copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Names that the image does not know. As for BuildKit they are no error: an unknown user is
    /// root, an unknown group the user's own.
    pub unknown: Vec<String>,
}

/// Finds out which owner `--chown=text` means. Without a group, the group has the user's number
/// or, for a name, is the user's own.
pub fn resolve_owner(view: &View, text: &str) -> Result<Owner, ExecError> {
    let passwd = view.read("/etc/passwd", FILE_BYTES_MAX)?.unwrap_or_default();
    let group = view.read("/etc/group", FILE_BYTES_MAX)?.unwrap_or_default();
    let (passwd, group) = (String::from_utf8_lossy(&passwd), String::from_utf8_lossy(&group));
    Ok(owner_in(&passwd, &group, text))
}

fn owner_in(passwd: &str, group: &str, text: &str) -> Owner {
    let (user, group_name) = match text.split_once(':') {
        Some((user, group_name)) => (user, Some(group_name)),
        None => (text, None),
    };
    let mut owner = Owner::default();
    let mut accounts = passwd.lines().filter_map(Account::parse);
    if let Some(uid) = owner_number(user) {
        (owner.uid, owner.gid) = (uid, uid);
    } else if let Some(account) = accounts.find(|account| account.name == user) {
        (owner.uid, owner.gid) = (account.uid, account.gid);
    } else if !user.is_empty() {
        owner.unknown.push(user.to_owned());
    }
    let Some(group_name) = group_name else { return owner };
    if group_name.is_empty() {
        return Owner { gid: 0, ..owner };
    }
    let mut groups = group.lines().filter_map(Group::parse);
    if let Some(gid) = owner_number(group_name) {
        owner.gid = gid;
    } else if let Some(group) = groups.find(|group| group.name == group_name) {
        owner.gid = group.gid;
    } else {
        owner.unknown.push(group_name.to_owned());
    }
    owner
}

/// A number of `--chown` if it is one, as BuildKit reads it: 32 bits with a sign, of which
/// chown(2) takes -1 to mean that nothing changes. A greater number is a name.
fn owner_number(text: &str) -> Option<u32> {
    let id = text.parse::<i32>().ok()?;
    Some(if id == -1 { 0 } else { id.cast_unsigned() })
}

fn resolve_in(passwd: &str, group: &str, text: &str) -> Result<User, PasswdError> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group_name)) => (name, group_name),
        None => (text, ""),
    };
    let uid = number(name)?;
    let wanted = if name.is_empty() { Some(0) } else { uid };
    let entry = passwd
        .lines()
        .filter_map(Account::parse)
        .find(|account| account.name == name || wanted == Some(account.uid));
    let mut user = match (&entry, wanted) {
        (Some(account), _) => account.user(),
        (None, Some(uid)) => {
            User { uid, gid: 0, additional_gids: Vec::new(), home: "/".to_owned() }
        }
        (None, None) => return Err(PasswdError::NoUser(name.to_owned())),
    };
    if !group_name.is_empty() {
        let wanted = number(group_name)?;
        let found = group
            .lines()
            .filter_map(Group::parse)
            .find(|group| group.name == group_name || wanted == Some(group.gid));
        let gid = found.map(|group| group.gid).or(wanted);
        user.gid = gid.ok_or_else(|| PasswdError::NoGroup(group_name.to_owned()))?;
    } else if let Some(account) = entry {
        user.additional_gids = group
            .lines()
            .filter_map(Group::parse)
            .filter(|group| group.members.split(',').any(|member| member == account.name))
            .map(|group| group.gid)
            .collect();
    }
    Ok(user)
}

/// A number if it is one; a name is none.
fn number(text: &str) -> Result<Option<u32>, PasswdError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number <= ID_MAX => Ok(Some(number)),
        _ => Err(PasswdError::Range(text.to_owned())),
    }
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Self { name, uid, gid, home })
    }

    fn user(&self) -> User {
        let &Self { uid, gid, home, .. } = self;
        User { uid, gid, additional_gids: Vec::new(), home: home.to_owned() }
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nnode:x:1000:1000::/home/node:\n\
                          www:x:33:33::\n2000:x:5:6:digits:/d:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:node,www\naudio:x:29:other\nnode:x:1000:\n";

    fn check(text: &str, expected: &str) {
        let answer = match resolve_in(PASSWD, GROUP, text) {
            Ok(user) => {
                let User { uid, gid, additional_gids, home } = user;
                format!("{uid} {gid} {additional_gids:?} {home}")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(answer, expected, "{text:?}");
    }

    #[test]
    fn resolves_as_docker_does() {
        check("", "0 0 [] /root");
        check("root", "0 0 [] /root");
        check("node", "1000 1000 [50] /home/node");
        check("1000", "1000 1000 [50] /home/node");
        check("www", "33 33 [50] ");
        check("node:audio", "1000 29 [] /home/node");
        check("node:77", "1000 77 [] /home/node");
        check("1234:4321", "1234 4321 [] /");
        check("1234", "1234 0 [] /");
        check("2000", "5 6 [] /d");
        check(":staff", "0 50 [] /root");
        check("0:", "0 0 [] /root");
        check("node:", "1000 1000 [50] /home/node");
        check("+8:+7", "8 7 [] /");
    }

    #[test]
    fn owners_are_those_of_buildkit() {
        let check = |text: &str, ids: (u32, u32), unknown: &[&str]| {
            let owner = owner_in(PASSWD, GROUP, text);
            assert_eq!((owner.uid, owner.gid), ids, "{text}");
            assert_eq!(owner.unknown, unknown, "{text}");
        };
        check("node", (1000, 1000), &[]);
        check("node:staff", (1000, 50), &[]);
        check("www:7", (33, 7), &[]);
        check("77", (77, 77), &[]);
        check("2000", (2000, 2000), &[]);
        check(":staff", (0, 50), &[]);
        check("nobody", (0, 0), &["nobody"]);
        check("nobody:staff", (0, 50), &["nobody"]);
        check("www:no", (33, 33), &["no"]);
        check("7:no", (7, 7), &["no"]);
        check("7:", (7, 0), &[]);
        check("-1", (0, 0), &[]);
        check("-5:+6", (4_294_967_291, 6), &[]);
        check("4294967295", (0, 0), &["4294967295"]);
    }

    #[test]
    fn says_who_is_missing() {
        check(
            "nobody",
            "unable to find user `nobody`: no matching entry in the image's passwd file",
        );
        check("node:no", "unable to find group `no`: no matching entry in the image's group file");
        check("-1", "`-1` is not a user or group id between 0 and 2147483647");
        check("4294967295", "`4294967295` is not a user or group id between 0 and 2147483647");
    }
}
