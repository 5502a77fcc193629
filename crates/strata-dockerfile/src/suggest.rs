//! "Did you mean": the nearest of a few known words.

/// The candidate nearest to `word`, if one is near enough to be what the user meant.
///
/// Case does not count. Near enough is one edit for short words and one per three letters for
/// longer ones; of equally near candidates the first wins.
///
/// ```
/// let flags = ["chown", "chmod", "from"];
/// assert_eq!(strata_dockerfile::suggest("chwon", flags), Some("chown"));
/// assert_eq!(strata_dockerfile::suggest("exclude", flags), None);
/// ```
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = fold(word).take(LONGEST_CHARS).collect();
    let limit = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?``, if there is an `x`.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    suggest(word, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// Longer words are cut: nobody mistypes a page.
const LONGEST_CHARS: usize = 64;

fn fold(word: &str) -> impl Iterator<Item = char> {
    word.chars().map(|letter| letter.to_ascii_lowercase())
}

/// The optimal string alignment distance: insertions, deletions, replacements, and swaps of
/// neighbours all count one.
fn distance(word: &[char], candidate: &str) -> usize {
    let other: Vec<char> = fold(candidate).take(LONGEST_CHARS).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in word.iter().enumerate() {
        let mut next = vec![row + 1; other.len() + 1];
        for (column, goal) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != goal);
            next[column + 1] = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == other[column - 1] && word[row - 1] == *goal;
            if swapped {
                next[column + 1] = next[column + 1].min(before[column - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["FROM", "RUN", "CMD", "ENTRYPOINT", "ENV"];
        let cases = [
            ("FORM", Some("FROM")),
            ("frmo", Some("FROM")),
            ("RUNN", Some("RUN")),
            ("ENTRIPONT", Some("ENTRYPOINT")),
            ("EVN", Some("ENV")),
            ("apt-get", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(suggest(word, known), expected, "{word}");
        }
    }
}
