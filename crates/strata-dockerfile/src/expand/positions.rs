//! Sets of positions in a text, one bit each: a pattern's token is applied to 64 at a time.

/// Positions from 0 to a text's length, which is one too.
#[derive(Clone, Debug)]
pub(super) struct Positions(Vec<u64>);

impl Positions {
    /// No position of a text of this length.
    pub(super) fn none(length: usize) -> Self {
        Self(vec![0; length / 64 + 1])
    }

    /// Those of a text of this length that are wanted.
    pub(super) fn of(length: usize, wanted: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::none(length);
        (0..=length).filter(|at| wanted(*at)).for_each(|at| set.insert(at));
        set
    }

    pub(super) fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    pub(super) fn last(&self) -> Option<usize> {
        let (index, word) = self.0.iter().enumerate().rfind(|(_, word)| **word != 0)?;
        Some(index * 64 + 63 - word.leading_zeros() as usize)
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let some = |left: u64| (left != 0).then_some(left);
            let left = std::iter::successors(some(*word), move |left| some(left & (left - 1)));
            left.map(move |left| index * 64 + left.trailing_zeros() as usize)
        })
    }

    /// One character on, from those where it `fits`.
    pub(super) fn step(&mut self, fits: &Self) {
        count(self.0.len());
        let mut carry = 0;
        for (word, fits) in self.0.iter_mut().zip(&fits.0) {
            let moved = *word & fits;
            *word = moved << 1 | carry;
            carry = moved >> 63;
        }
    }

    /// Any number of characters on, as long as they fit. The carry of an addition runs through
    /// the fitting characters from the first position in each run of them to the run's end.
    pub(super) fn spread(&mut self, fits: &Self) {
        count(self.0.len());
        let mut carry = false;
        for (word, fits) in self.0.iter_mut().zip(&fits.0) {
            let (sum, over) = (*word & fits).overflowing_add(*fits);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *word |= sum ^ fits;
            carry = over || over_again;
        }
    }
}

/// Counts the work that tests bound.
#[cfg(not(test))]
fn count(_words: usize) {}

#[cfg(test)]
fn count(words: usize) {
    WORK.set(WORK.get() + words);
}

#[cfg(test)]
thread_local! {
    /// How many words of 64 positions were stepped or spread by this thread.
    pub(super) static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
