//! `/etc/subuid` and `/etc/subgid`: which ids a user may give to others
//! (<https://man7.org/linux/man-pages/man5/subuid.5.html>).

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Users,
    Groups,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/subuid",
            Self::Groups => "/etc/subgid",
        }
    }
}

/// The user's ranges: the first id and how many. An error says in a sentence that there is none.
pub(crate) fn ranges(kind: Kind, uid: u32) -> Result<Vec<(u32, u32)>, String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid);
    let text = std::fs::read_to_string(kind.file()).unwrap_or_default();
    let ranges = ranges_in(&text, name, uid);
    if ranges.is_empty() {
        let who = name.map_or_else(|| uid.to_string(), str::to_owned);
        return Err(format!("`{}` has no range for `{who}`", kind.file()));
    }
    Ok(ranges)
}

/// The user's name; the lines of `passwd` may be anything.
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

fn ranges_in(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let (who, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        if Some(who) != name && who != uid.to_string() {
            return None;
        }
        let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
        first.checked_add(count).filter(|_| count > 0).map(|_| (first, count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nann:100000:65536\n# ann:7:8\n1000:300000:10\nann:x:1\nann:5:0\n\
                    ann:4294967295:2\nbob:1:1\n";
        let found = ranges_in(text, Some("ann"), 1000);
        assert_eq!(found, [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges_in(text, None, 1000), [(300_000, 10)]);
        assert_eq!(ranges_in(text, Some("cid"), 7), []);
    }

    #[test]
    fn a_users_name_is_what_passwd_says() {
        let passwd = "broken\nroot:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("ann"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
