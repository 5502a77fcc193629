//! The commands in the text of a `RUN`, as far as they can be read without being a shell.

use crate::CommandForm;

/// One command: its words without quotes, what only dresses it up left out.
pub(super) type Command = Vec<String>;

/// What comes before a command without being one.
const DRESS: [&str; 12] =
    ["sudo", "env", "exec", "time", "command", "if", "then", "else", "do", "while", "!", "{"];

/// The commands of a `RUN`, in order.
pub(super) fn commands(form: &CommandForm) -> Vec<Command> {
    let found = match form {
        CommandForm::Shell(text) => read(text),
        CommandForm::Exec(words) => match words.as_slice() {
            [shell, flag, text] if shell.ends_with("sh") && flag.ends_with('c') => read(text),
            words => vec![words.to_vec()],
        },
    };
    found.into_iter().map(undress).filter(|command| !command.is_empty()).collect()
}

/// The program's name without its directory, and the first word after it that is no flag.
pub(super) fn program(command: &Command) -> (&str, Option<&str>) {
    let name = command.first().map_or("", String::as_str);
    let name = name.rsplit('/').next().unwrap_or(name);
    let rest = command.iter().skip(1).map(String::as_str);
    (name, rest.into_iter().find(|word| !word.starts_with('-')))
}

fn undress(command: Command) -> Command {
    let is_dress = |word: &String| DRESS.contains(&word.as_str()) || is_assignment(word);
    command.into_iter().skip_while(is_dress).collect()
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn read(text: &str) -> Vec<Command> {
    let mut commands = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    let end_word = |word: &mut String, commands: &mut Vec<Command>, ends_command: bool| {
        if let (false, Some(command)) = (word.is_empty(), commands.last_mut()) {
            command.push(std::mem::take(word));
        }
        if ends_command {
            commands.push(Vec::new());
        }
    };
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), letter) => word.push(letter),
            (_, '\\') => word.extend(letters.next().filter(|letter| *letter != '\n')),
            (Some(_), letter) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, ' ' | '\t' | '\r') => end_word(&mut word, &mut commands, false),
            (None, '\n' | ';' | '&' | '|' | '(' | ')') => end_word(&mut word, &mut commands, true),
            (None, letter) => word.push(letter),
        }
    }
    end_word(&mut word, &mut commands, true);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_a_shell() {
        let text = "set -e; A=1 sudo apt-get -y update && (cd /x && npm 'ci' \"a b\")|tee\nx";
        let found = commands(&CommandForm::Shell(text.to_owned()));
        let found: Vec<String> = found.iter().map(|command| command.join("_")).collect();
        assert_eq!(found, ["set_-e", "apt-get_-y_update", "cd_/x", "npm_ci_a b", "tee", "x"]);
        let form = ["/bin/sh", "-ec", "a; b"].map(str::to_owned).to_vec();
        assert_eq!(commands(&CommandForm::Exec(form)).len(), 2);
    }
}
