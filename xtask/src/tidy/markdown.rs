//! The little Markdown that the checks read: tables, and what is not code.

/// A table's row: its line, from 1, and its cells without the outer bars.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) line: usize,
    pub(super) cells: Vec<&'a str>,
}

/// The body rows of the tables whose heading row begins with these cells.
pub(super) fn table<'a>(text: &'a str, heading: &[&str]) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (line, content) in prose(text) {
        let Some(cells) = cells(content) else {
            inside = false;
            continue;
        };
        if cells.starts_with(heading) {
            inside = true;
        } else if inside && !is_rule(&cells) {
            rows.push(Row { line, cells });
        }
    }
    rows
}

/// The lines outside fenced code, numbered from 1.
pub(super) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn is_rule(cells: &[&str]) -> bool {
    cells.iter().all(|cell| cell.chars().all(|char| matches!(char, '-' | ':')))
}

/// The text between the first pair of backquotes.
pub(super) fn literal(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_table_that_is_meant() {
        let text = "| a | b |\n|---|:-:|\n| 1 | `x` |\n\n| c |\n|---|\n| 2 |\n\
                    ```\n| a | b |\n| 3 | 4 |\n```\n";
        let rows = table(text, &["a", "b"]);
        assert_eq!(rows, [Row { line: 3, cells: vec!["1", "`x`"] }]);
        assert_eq!(literal(rows[0].cells[1]), Some("x"));
    }
}
