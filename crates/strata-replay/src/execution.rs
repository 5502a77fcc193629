//! Builds that really ran: what was predicted, what came, and what another builder did.

use serde::{Deserialize, Serialize};

use crate::history::Commit;

/// Real builds of some of the commits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Execution {
    /// The builds, oldest first.
    pub builds: Vec<RealBuild>,
    /// Hits that ran again, and gave what they had given.
    pub audited: u64,
    /// Steps that gave something else when they ran again: each is a step that is not
    /// deterministic, or a hit that should have been none.
    pub differing: Vec<String>,
    /// The command of the other builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// One real build.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RealBuild {
    /// The commit.
    pub commit: String,
    /// Steps (RUN, COPY, ADD) that the replay of these commits predicts to hit.
    pub predicted_hits: u64,
    /// What strata did.
    pub strata: Measured,
    /// What the other builder did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Measured>,
}

/// What one builder did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Whether it ended with an image.
    pub built: bool,
    /// Wall time in milliseconds.
    pub millis: u64,
    /// Steps (RUN, COPY, ADD) that were in its cache.
    pub hits: u64,
    /// Steps that it knew of.
    pub steps: u64,
    /// What it said last, if it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

impl Execution {
    /// Builds that had fewer hits than predicted, though they ended well.
    pub fn short(&self) -> impl Iterator<Item = &RealBuild> {
        self.builds.iter().filter(|one| one.strata.built && one.strata.hits < one.predicted_hits)
    }
}

/// So many commits, evenly spread, the first and the newest among them.
pub fn sample(commits: &[Commit], count: usize) -> Vec<Commit> {
    if commits.len() <= count || count < 2 {
        return commits[commits.len().saturating_sub(count)..].to_vec();
    }
    let last = commits.len() - 1;
    (0..count).map(|number| commits[number * last / (count - 1)].clone()).collect()
}

/// Counts steps in what a builder printed in plain form: BuildKit's and Buildah's.
pub fn count_plain(output: &str) -> (u64, u64) {
    let (mut steps, mut hits) = (0, 0);
    let mut names: Vec<(&str, bool)> = Vec::new();
    for line in output.lines() {
        let line = line.trim();
        // BuildKit: `#7 [build 2/4] RUN x`, then `#7 CACHED` or `#7 DONE 0.1s`.
        if let Some((vertex, rest)) = line.strip_prefix('#').and_then(|l| l.split_once(' ')) {
            let work = rest.starts_with('[')
                && ["] RUN ", "] COPY ", "] ADD "].iter().any(|word| rest.contains(word));
            match names.iter_mut().find(|(name, _)| *name == vertex) {
                Some((_, cached)) => *cached |= rest == "CACHED",
                None if work => names.push((vertex, false)),
                None => {}
            }
        }
        // Buildah: `STEP 3/7: RUN x`, then `--> Using cache 0123`.
        if let Some((_, rest)) = line.strip_prefix("STEP ").and_then(|l| l.split_once(": ")) {
            let work = ["RUN ", "COPY ", "ADD "].iter().any(|word| rest.starts_with(word));
            steps += u64::from(work);
            names.push(("", !work));
        } else if line.starts_with("--> Using cache")
            && names.last().is_some_and(|(name, aside)| name.is_empty() && !aside)
        {
            hits += 1;
        }
    }
    for (_, cached) in names.into_iter().filter(|(name, _)| !name.is_empty()) {
        steps += 1;
        hits += u64::from(cached);
    }
    (hits, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_builders_steps() {
        let buildkit = "#1 [internal] load build definition\n#1 DONE 0.0s\n\
            #5 [1/3] FROM docker.io/library/a\n#5 CACHED\n\
            #6 [2/3] COPY . .\n#6 DONE 0.1s\n\
            #7 [build 3/3] RUN make\n#7 CACHED\n";
        assert_eq!(count_plain(buildkit), (1, 2));
        let buildah = "STEP 1/3: FROM a\nSTEP 2/3: RUN x\n--> Using cache 012\n--> 012\n\
            STEP 3/3: LABEL a=b\n--> Using cache 345\n";
        assert_eq!(count_plain(buildah), (1, 1));
    }

    #[test]
    fn samples_are_spread() {
        let id = gix::ObjectId::null(gix::hash::Kind::Sha1);
        let commit = |time| Commit { id, tree: id, subject: String::new(), time };
        let commits: Vec<Commit> = (0..10).map(commit).collect();
        let times = |count| sample(&commits, count).iter().map(|c| c.time).collect::<Vec<_>>();
        assert_eq!(times(4), [0, 3, 6, 9]);
        assert_eq!(times(1), [9]);
        assert_eq!(times(20).len(), 10);
        assert_eq!(times(0), Vec::<i64>::new());
    }
}
