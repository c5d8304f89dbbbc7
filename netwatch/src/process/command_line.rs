//! The program that a command line runs, where only the command line is known: what a wrapper
//! starts, instead of the wrapper.

use super::file_name;
use super::interpreter::{ParsedArguments, interpreter, wrapper};

/// Words of shells that are no programs, and commands that every shell has itself.
const SHELL_WORDS: [&str; 28] = [
    ":", ".", "[", "case", "cd", "echo", "eval", "exit", "export", "false", "for", "if", "kill", "printf", "pwd",
    "read", "set", "shift", "source", "test", "trap", "true", "ulimit", "umask", "unset", "until", "wait", "while",
];

/// The name of the program that this command line runs. `None` without words.
pub fn program_of_command<T: AsRef<str>>(words: &[T]) -> Option<&str> {
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let own = file_name(words.first()?);
    // Each round removes words.
    while let Some(inner) = started_by(&words) {
        words = inner;
    }
    let found = file_name(words.first()?);
    let is_shell = interpreter(found).is_some_and(|syntax| syntax.is_shell());
    Some(if is_shell || wrapper(found).is_some() { own } else { found })
}

/// The command line that an interpreter or a wrapper starts.
fn started_by<'a>(words: &[&'a str]) -> Option<Vec<&'a str>> {
    let (name, rest) = words.split_first()?;
    let name = file_name(name);
    if let Some(syntax) = interpreter(name) {
        return match syntax.parse(rest) {
            ParsedArguments::Script(script) => Some(vec![script]),
            ParsedArguments::Operands(operands) => operands.first().map(|script| vec![*script]),
            ParsedArguments::Code(code) if syntax.is_shell() => first_command(code),
            ParsedArguments::Code(_) | ParsedArguments::Unknown => None,
        };
    }
    let (syntax, operands) = wrapper(name)?;
    let ParsedArguments::Operands(words) = syntax.parse(rest) else { return None };
    let command: Vec<&str> = words.into_iter().skip_while(|word| is_assignment(word)).skip(operands).collect();
    (!command.is_empty()).then_some(command)
}

/// The first command of a shell script, if its first words are plain.
fn first_command(script: &str) -> Option<Vec<&str>> {
    let end = script.find([';', '&', '|', '\n']).unwrap_or(script.len());
    let words = script[..end].split_whitespace().skip_while(|word| is_assignment(word) || *word == "exec");
    let words: Vec<&str> = words.collect();
    let is_plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    let first = words.first()?;
    (is_plain(first) && !SHELL_WORDS.contains(first)).then_some(words)
}

/// `NAME=value`.
fn is_assignment(word: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wrapper_starts_is_named() {
        let table: [(&[&str], &str); 27] = [
            (&["/usr/bin/curl", "x"], "curl"),
            (&["sh", "-c", "kill -9 1234"], "sh"),
            (&["sh", "-c", "curl x; wget y"], "curl"),
            (&["sh", "-ec", "A=1 exec ./server --port 80"], "server"),
            (&["bash", "deploy.sh"], "deploy.sh"),
            (&["sh", "-c", "for i in 1 2; do curl x; done"], "sh"),
            (&["sh", "-c", "\"$CLIENT\" x"], "sh"),
            (&["sh", "-c"], "sh"),
            (&["env", "python3", "-u", "/opt/shop.py", "-v"], "shop.py"),
            (&["env", "-i", "-u", "HOME", "A=1", "/opt/app", "-v"], "app"),
            (&["env"], "env"),
            (&["env", "-iu", "HOME", "A=1", "bash", "-eo", "pipefail", "x.sh"], "x.sh"),
            (&["env", "--", "A=1", "curl", "x"], "curl"),
            (&["env", "-", "curl", "x"], "curl"),
            (&["/usr/bin/env", "-S bash -eu", "./x.sh"], "x.sh"),
            (&["env", "-vS", "A=1 python3 -u", "./x.py"], "x.py"),
            (&["bash", "-e", "-o", "pipefail", "-c", "curl x | wc"], "curl"),
            (&["bash", "-c", "-e", "curl x"], "curl"),
            (&["python3", "-uc", "import socket"], "python3"),
            (&["busybox", "sh", "-e", "x.sh"], "x.sh"),
            (&["timeout", "-k", "1", "5", "curl", "x"], "curl"),
            (&["timeout", "--kill-after=1", "5", "sh", "-c", "exec curl"], "curl"),
            (&["nice", "-n", "5", "make"], "make"),
            (&["nice", "-5", "make"], "make"),
            (&["chroot", "/srv", "nginx"], "nginx"),
            (&["flock", "/tmp/lock", "sh", "-c", "cd /; curl x"], "flock"),
            (&["setsid", "nohup", "./daemon"], "daemon"),
        ];
        for (words, expected) in table {
            assert_eq!(program_of_command(words), Some(expected), "{words:?}");
        }
        assert_eq!(program_of_command::<&str>(&[]), None);
    }
}
