//! The files of `/etc` that a run gets from strata: they say where the process runs, so they must
//! not come from the image or get into the layer.

use std::fmt::Write;
use std::io;

use crate::Job;

/// Makes the text of `/etc/hosts`.
pub(crate) fn hosts(job: &Job) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {}\n", job.hostname);
    text += "::1\tlocalhost ip6-localhost ip6-loopback\n";
    for (name, address) in &job.extra_hosts {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// The machine's own name servers: the process has the machine's network, or none.
pub(crate) fn resolv_conf() -> io::Result<Vec<u8>> {
    match std::fs::read("/etc/resolv.conf") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_machine_and_what_was_asked_for() {
        let extra_hosts = vec![("db".to_owned(), "10.0.0.7".to_owned())];
        let job = Job { hostname: "box".to_owned(), extra_hosts, ..Job::default() };
        let expected = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                        10.0.0.7\tdb\n";
        assert_eq!(hosts(&job), expected);
    }
}
