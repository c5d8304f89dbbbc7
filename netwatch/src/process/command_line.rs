//! The program that a command line runs, where only the command line is known: what a wrapper
//! starts, instead of the wrapper.

use super::file_name;
use super::program::{is_interpreter, script};

/// A wrapper's options that have a value as the next argument, and its arguments before the
/// command.
struct Wrapper {
    name: &'static str,
    with_value: &'static [&'static str],
    operands: usize,
}

const fn wrapper(name: &'static str, with_value: &'static [&'static str], operands: usize) -> Wrapper {
    Wrapper { name, with_value, operands }
}

const WRAPPERS: [Wrapper; 12] = [
    wrapper("chrt", &["-T", "-P", "-D"], 1),
    wrapper("chroot", &[], 1),
    wrapper("env", &["-u", "-C", "--unset", "--chdir"], 0),
    wrapper("flock", &["-w", "-E"], 1),
    wrapper("ionice", &["-c", "-n", "--class", "--classdata"], 0),
    wrapper("nice", &["-n", "--adjustment"], 0),
    wrapper("nohup", &[], 0),
    wrapper("setsid", &[], 0),
    wrapper("stdbuf", &["-i", "-o", "-e", "--input", "--output", "--error"], 0),
    wrapper("taskset", &[], 1),
    wrapper("time", &["-f", "-o", "--format", "--output"], 0),
    wrapper("timeout", &["-k", "-s", "--kill-after", "--signal"], 1),
];
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];
/// Options of shells after which the code itself is an argument.
const CODE: [&str; 4] = ["-c", "-ec", "-lc", "-xc"];
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
    let is_wrapper = SHELLS.contains(&found) || WRAPPERS.iter().any(|wrapper| wrapper.name == found);
    Some(if is_wrapper { own } else { found })
}

/// The command line that a wrapper starts.
fn started_by<'a>(words: &[&'a str]) -> Option<Vec<&'a str>> {
    let (name, rest) = words.split_first()?;
    let name = file_name(name);
    if let Some(script) = script(words.iter().copied()).filter(|_| is_interpreter(name)) {
        return Some(vec![script]);
    }
    if SHELLS.contains(&name) {
        let code = rest.iter().position(|word| CODE.contains(word))?;
        return first_command(rest.get(code + 1)?);
    }
    let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == name)?;
    let mut rest = rest.iter().copied();
    let mut operands = wrapper.operands;
    while let Some(word) = rest.next() {
        if wrapper.with_value.contains(&word) {
            rest.next();
            continue;
        }
        let is_argument = !word.starts_with('-') && !is_assignment(word);
        if is_argument && operands > 0 {
            operands -= 1;
        } else if is_argument {
            return Some(std::iter::once(word).chain(rest).collect());
        }
    }
    None
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
        let table: [(&[&str], &str); 18] = [
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
