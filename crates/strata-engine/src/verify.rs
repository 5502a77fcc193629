//! Running hits again, only to see whether they give the same: which ones, and what came of it.
//! The answer to a build is never touched by it.

use strata_cas::{DefinitionKey, Diff, Record};

use crate::{Outcome, Step};

/// A sample of the hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    /// How many of a hundred are run again.
    pub percent: u8,
    /// What decides which ones: equal seeds choose equally.
    pub seed: u64,
}

/// What came of running a hit again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// It gave the same.
    Same,
    /// It gave something else: the step is not deterministic.
    Differs(Diff),
    /// It could not be done this time, and was done before.
    Failed,
}

impl Verify {
    /// Whether a step is in the sample.
    pub fn chooses(&self, key: &DefinitionKey) -> bool {
        let bytes = [&key.as_bytes()[..], &self.seed.to_le_bytes()].concat();
        let hash = *strata_cas::BlobId::of(&bytes).as_bytes();
        let number = u16::from_le_bytes([hash[0], hash[1]]);
        u32::from(number) * 100 < u32::from(self.percent.min(100)) << 16
    }
}

/// Runs a step once more and compares.
pub(crate) fn run_again<S: Step>(
    step: &S,
    inputs: &[Outcome],
    record: &Record,
    store: &dyn strata_cas::BlobStore,
) -> Verification {
    match step.run(inputs) {
        Err(_) => Verification::Failed,
        Ok(produced) if produced.tree == record.tree => Verification::Same,
        Ok(produced) => {
            Verification::Differs(crate::reason::between(store, &record.tree, &produced.tree))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_as_large_as_was_asked_and_always_the_same() {
        let keys: Vec<DefinitionKey> = (0..1000u32)
            .map(|n| {
                DefinitionKey::from_bytes(*strata_cas::BlobId::of(&n.to_le_bytes()).as_bytes())
            })
            .collect();
        let chosen = |percent, seed| {
            let verify = Verify { percent, seed };
            keys.iter().filter(|key| verify.chooses(key)).copied().collect::<Vec<_>>()
        };
        assert_eq!(chosen(0, 1).len(), 0);
        assert_eq!(chosen(100, 1).len(), 1000);
        assert_eq!(chosen(255, 1).len(), 1000);
        let quarter = chosen(25, 1);
        assert!((200..300).contains(&quarter.len()), "{}", quarter.len());
        assert_eq!(quarter, chosen(25, 1));
        assert_ne!(quarter, chosen(25, 2));
    }
}
