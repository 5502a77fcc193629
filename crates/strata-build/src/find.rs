//! Which step a person means: by its number, by stage and number, or by what is written there.

/// A text that names no step, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    /// No step is called that.
    #[error("no step is called `{text}`")]
    None {
        /// What was asked for.
        text: String,
        /// How many steps there are.
        steps: usize,
    },
    /// More than one is.
    #[error("`{text}` may be any of {} steps", found.len())]
    Many {
        /// What was asked for.
        text: String,
        /// The steps, from 0.
        found: Vec<usize>,
    },
}

/// Finds the step that `text` names among steps with these stages and instructions:
///
/// - `3` is the third step of the plan, as plain progress numbers them;
/// - `build.2` is the second step of the stage `build`;
/// - `npm ci` is the step in whose instruction this stands, if there is only one. Letter case and
///   the number of spaces do not matter.
pub fn find_step<'a>(
    steps: impl Iterator<Item = (&'a str, &'a str)>,
    text: &str,
) -> Result<usize, NoStep> {
    let steps: Vec<(&str, &str)> = steps.collect();
    let none = || NoStep::None { text: text.to_owned(), steps: steps.len() };
    let number = |text: &str| text.parse::<usize>().ok()?.checked_sub(1);
    if let Some(at) = number(text.trim_start_matches('#')) {
        return if at < steps.len() { Ok(at) } else { Err(none()) };
    }
    if let Some((stage, at)) = text.rsplit_once('.')
        && let Some(at) = number(at)
        && steps.iter().any(|(name, _)| is_stage(name, stage))
    {
        let in_stage = steps.iter().enumerate().filter(|(_, (name, _))| is_stage(name, stage));
        return in_stage.map(|(step, _)| step).nth(at).ok_or_else(none);
    }
    let plain =
        |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let wanted = plain(text);
    let texts: Vec<String> = steps.iter().map(|(_, text)| plain(text)).collect();
    let mut found: Vec<usize> = (0..texts.len()).filter(|at| texts[*at] == wanted).collect();
    if found.is_empty() && !wanted.is_empty() {
        found = (0..texts.len()).filter(|at| texts[*at].contains(&wanted)).collect();
    }
    match found[..] {
        [] => Err(none()),
        [step] => Ok(step),
        _ => Err(NoStep::Many { text: text.to_owned(), found }),
    }
}

/// A stage without a name is shown as `stage-1`.
pub(crate) fn is_stage(name: &str, text: &str) -> bool {
    let shown = || {
        name.parse::<usize>().is_ok_and(|_| {
            text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("stage-"))
                && &text[6..] == name
        })
    };
    name.eq_ignore_ascii_case(text) || shown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_many_names() {
        let steps = [
            ("deps", "FROM node"),
            ("deps", "COPY package.json ."),
            ("deps", "RUN npm   ci"),
            ("1", "FROM nginx"),
            ("1", "COPY --from=deps /app ."),
            ("1", "RUN npm ci --verify"),
        ];
        let find = |text: &str| find_step(steps.into_iter(), text);
        let none = |text: &str| Err(NoStep::None { text: text.to_owned(), steps: 6 });
        for (text, expected) in [
            ("1", Ok(0)),
            ("#6", Ok(5)),
            ("0", none("0")),
            ("7", none("7")),
            ("deps.3", Ok(2)),
            ("DEPS.1", Ok(0)),
            ("deps.4", none("deps.4")),
            ("1.2", Ok(4)),
            ("stage-1.2", Ok(4)),
            ("package.json", Ok(1)),
            ("run npm ci", Ok(2)),
            ("--verify", Ok(5)),
            ("npm ci", Err(NoStep::Many { text: "npm ci".to_owned(), found: vec![2, 5] })),
            ("pip", none("pip")),
            ("", none("")),
        ] {
            assert_eq!(find(text), expected, "{text}");
        }
    }
}
