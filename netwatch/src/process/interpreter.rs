//! How interpreters and wrappers parse their own options, as tables: which argument is the script,
//! the code, or the command to start.

use OptionKind::{Code, CodeOperand, Flag, Joined, NextWord, NoScript, Script, Split, Value};

/// What an option means for the arguments around it. Options that no table lists are flags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OptionKind {
    /// Has no argument.
    Flag,
    /// The rest of its word or the next word is its argument.
    Value,
    /// The next word is its argument, also in the middle of a cluster: `-oe pipefail`.
    NextWord,
    /// The rest of its word is its argument, which can be empty.
    Joined,
    /// Its argument, as of `Value`, is the script or module.
    Script,
    /// Its argument, as of `Value`, is the code.
    Code,
    /// The first operand is the code.
    CodeOperand,
    /// Operands are no script: the program comes from the standard input, for example.
    NoScript,
    /// Its argument, as of `Value`, is split into words, which stand for it.
    Split,
}

/// Names separated by spaces, or single letters, of one kind.
type OptionTable = &'static [(&'static str, OptionKind)];

/// How one program parses its arguments.
pub(super) struct ArgumentSyntax {
    names: &'static str,
    /// Single letters, which can stand in clusters.
    letters: OptionTable,
    /// Names after `--`.
    long: OptionTable,
    /// Whole words: commands of the program, `-` and `--`.
    words: OptionTable,
    /// The long names also follow a single `-`.
    has_single_dash: bool,
    /// Executes commands, and has options that start with `+`.
    is_shell: bool,
}

/// What the arguments of a program contain.
pub(super) enum ParsedArguments<'a> {
    Script(&'a str),
    Code(&'a str),
    /// The operands, without options.
    Operands(Vec<&'a str>),
    Unknown,
}

const fn syntax(names: &'static str, letters: OptionTable, long: OptionTable, words: OptionTable) -> ArgumentSyntax {
    ArgumentSyntax { names, letters, long, words, has_single_dash: false, is_shell: false }
}

const fn shell(names: &'static str, letters: OptionTable, long: OptionTable) -> ArgumentSyntax {
    ArgumentSyntax { is_shell: true, ..syntax(names, letters, long, &[]) }
}

const STDIN: OptionTable = &[("-", NoScript)];

const INTERPRETERS: [ArgumentSyntax; 14] = [
    ArgumentSyntax {
        has_single_dash: true,
        ..shell(
            "bash rbash",
            &[("oO", NextWord), ("c", CodeOperand), ("s", NoScript)],
            &[
                ("init-file rcfile", Value),
                ("debug debugger dump-po-strings dump-strings help login noediting noprofile norc", Flag),
                ("posix pretty-print protected restricted verbose version wordexp", Flag),
            ],
        )
    },
    shell("ash dash sh", &[("oO", NextWord), ("c", CodeOperand), ("s", NoScript)], &[("init-file rcfile", Value)]),
    shell("ksh mksh rksh", &[("oA", Value), ("c", CodeOperand), ("s", NoScript)], &[]),
    shell("zsh", &[("o", Value), ("c", CodeOperand), ("s", NoScript)], &[("emulate", Value)]),
    shell("csh tcsh", &[("c", Code), ("s", NoScript)], &[]),
    shell(
        "fish",
        &[("c", Code), ("CDdfop", Value)],
        &[
            ("command", Code),
            ("debug debug-output debug-stack-frames features init-command profile profile-startup", Value),
        ],
    ),
    syntax("python pypy", &[("c", Code), ("m", Script), ("WX", Value)], &[("check-hash-based-pycs jit", Value)], STDIN),
    syntax("perl", &[("eE", Code), ("I", Value), ("DFMVimx", Joined)], &[], STDIN),
    syntax(
        "ruby",
        &[("e", Code), ("CEIXr", Value), ("0FKTWix", Joined)],
        &[("backtrace-limit disable dump enable encoding external-encoding internal-encoding parser", Value)],
        STDIN,
    ),
    syntax(
        "php",
        &[("BERr", Code), ("Ff", Script), ("Scdtz", Value)],
        &[
            ("process-begin process-code process-end run", Code),
            ("file process-file", Script),
            ("define docroot php-ini rc re rf ri rz server zend-extension", Value),
        ],
        &[("- --", NoScript)],
    ),
    syntax(
        "node nodejs",
        &[("ep", Code), ("Cr", Value)],
        &[
            ("eval print", Code),
            ("conditions diagnostic-dir disable-warning dns-result-order env-file env-file-if-exists", Value),
            ("experimental-loader icu-data-dir import input-type loader max-http-header-size", Value),
            ("openssl-config redirect-warnings require test-name-pattern test-reporter", Value),
            ("test-reporter-destination title trace-event-categories unhandled-rejections watch-path", Value),
        ],
        &[("-", NoScript), ("inspect", Flag)],
    ),
    syntax(
        "deno",
        &[("Lc", Value)],
        &[("cert config import-map location log-level seed", Value)],
        &[
            ("run serve", Flag),
            ("- add bench bundle cache check compile completions coverage doc eval fmt help info init", NoScript),
            ("install jupyter lint lsp outdated publish remove repl task test types uninstall upgrade", NoScript),
        ],
    ),
    syntax(
        "bun",
        &[("ep", Code), ("cdlr", Value)],
        &[
            ("eval print", Code),
            ("config cwd define env-file import loader port preload require tsconfig-override", Value),
        ],
        &[
            ("run", Flag),
            ("- a add build c create exec i init install link outdated pm publish remove repl", NoScript),
            ("rm test unlink update upgrade x", NoScript),
        ],
    ),
    ArgumentSyntax {
        has_single_dash: true,
        ..syntax(
            "java",
            &[],
            &[
                ("jar m module", Script),
                ("add-exports add-modules add-opens add-reads class-path classpath cp d", Value),
                ("describe-module enable-native-access limit-modules module-path p patch-module", Value),
                ("source upgrade-module-path", Value),
            ],
            &[],
        )
    },
];

/// The wrappers that only start another program, and the number of operands before its name.
const WRAPPERS: [(ArgumentSyntax, usize); 13] = [
    (syntax("busybox", &[], &[], &[]), 0),
    (syntax("chrt", &[("DPT", Value)], &[("sched-deadline sched-period sched-runtime", Value)], &[]), 1),
    (syntax("chroot", &[], &[], &[]), 1),
    (syntax("env", &[("Cu", Value), ("S", Split)], &[("chdir unset", Value), ("split-string", Split)], &[]), 0),
    (syntax("flock", &[("Ew", Value)], &[("conflict-exit-code timeout wait", Value)], &[]), 1),
    (syntax("ionice", &[("cn", Value)], &[("class classdata", Value)], &[]), 0),
    (syntax("nice", &[("n", Value)], &[("adjustment", Value)], &[]), 0),
    (syntax("nohup", &[], &[], &[]), 0),
    (syntax("setsid", &[], &[], &[]), 0),
    (syntax("stdbuf", &[("eio", Value)], &[("error input output", Value)], &[]), 0),
    (syntax("taskset", &[], &[], &[]), 1),
    (syntax("time", &[("fo", Value)], &[("format output", Value)], &[]), 0),
    (syntax("timeout", &[("ks", Value)], &[("kill-after signal", Value)], &[]), 1),
];

/// The interpreter with this name, also with a version: `python3.11`.
pub(super) fn interpreter(name: &str) -> Option<&'static ArgumentSyntax> {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.iter().find(|syntax| contains(syntax.names, name) || contains(syntax.names, plain))
}

/// The wrapper with this name, and the number of operands before the name of the program.
pub(super) fn wrapper(name: &str) -> Option<(&'static ArgumentSyntax, usize)> {
    WRAPPERS.iter().find(|(syntax, _)| syntax.names == name).map(|(syntax, operands)| (syntax, *operands))
}

fn contains(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

impl ArgumentSyntax {
    /// Whether its code consists of commands.
    pub(super) fn is_shell(&self) -> bool {
        self.is_shell
    }

    /// Parses the arguments, without the name of the program.
    pub(super) fn parse<'a>(&self, arguments: &[&'a str]) -> ParsedArguments<'a> {
        let mut rest: Vec<&str> = arguments.iter().rev().copied().collect();
        let (mut is_code, mut is_script, mut has_command) = (false, true, false);
        while let Some(word) = rest.pop() {
            let is_command = !word.starts_with('-') && named(self.words, word).is_some();
            let options = self.options_in(word);
            if options.is_empty() || (is_command && has_command) {
                rest.push(word);
                break;
            }
            has_command |= is_command;
            if matches!(word, "-" | "--") && options == [(Flag, "")] {
                break;
            }
            for (kind, joined) in options {
                let is_next = kind == NextWord || joined.is_empty();
                let has_argument = !matches!(kind, Flag | Joined | CodeOperand | NoScript);
                let argument = if has_argument && is_next { rest.pop() } else { Some(joined) };
                match (kind, argument) {
                    (Script, Some(script)) => return ParsedArguments::Script(script),
                    (Code, Some(code)) => return ParsedArguments::Code(code),
                    (Script | Code, None) => return ParsedArguments::Unknown,
                    (Split, Some(text)) => rest.extend(text.split_whitespace().rev()),
                    (CodeOperand, _) => is_code = true,
                    (NoScript, _) => is_script = false,
                    (Flag | Value | NextWord | Joined | Split, _) => {}
                }
            }
        }
        rest.reverse();
        match rest.first() {
            Some(&code) if is_code => ParsedArguments::Code(code),
            Some(_) if is_script => ParsedArguments::Operands(rest),
            _ => ParsedArguments::Unknown,
        }
    }

    /// The options of one word with the text that follows each of them in it; empty for an operand.
    fn options_in<'a>(&self, word: &'a str) -> Vec<(OptionKind, &'a str)> {
        if let Some(kind) = named(self.words, word) {
            return vec![(kind, "")];
        }
        if matches!(word, "-" | "--") {
            return vec![(Flag, "")];
        }
        let (after, is_long) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) if self.is_shell && word.len() > 1 && word.starts_with('+') => (&word[1..], false),
            (None, None) => return Vec::new(),
        };
        let (name, joined) = after.split_once('=').unwrap_or((after, ""));
        let known = named(self.long, name).filter(|_| is_long || self.has_single_dash);
        if is_long || known.is_some() {
            return vec![(known.unwrap_or(Flag), joined)];
        }
        self.cluster(after)
    }

    fn cluster<'a>(&self, letters: &'a str) -> Vec<(OptionKind, &'a str)> {
        let mut options = Vec::new();
        // Neither sign is a letter of an option: what follows is its value (`-d:Debugger`).
        for (at, letter) in letters.char_indices().take_while(|(_, letter)| !matches!(letter, ':' | '=')) {
            let kind = self.letters.iter().find(|(of_kind, _)| of_kind.contains(letter)).map_or(Flag, |found| found.1);
            options.push((kind, &letters[at + letter.len_utf8()..]));
            if !matches!(kind, Flag | NextWord | CodeOperand | NoScript) {
                break;
            }
        }
        if options.is_empty() { vec![(Flag, "")] } else { options }
    }
}

fn named(table: OptionTable, name: &str) -> Option<OptionKind> {
    table.iter().find(|(names, _)| contains(names, name)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first word of the table names the program, `|` separates arguments.
    fn script(line: &'static str) -> Option<&'static str> {
        let words: Vec<&str> = line.split('|').collect();
        match interpreter(words[0]).unwrap().parse(&words[1..]) {
            ParsedArguments::Script(script) => Some(script),
            ParsedArguments::Operands(operands) => operands.first().copied(),
            ParsedArguments::Code(_) | ParsedArguments::Unknown => None,
        }
    }

    #[test]
    fn options_before_a_script_are_parsed_as_its_interpreter_does() {
        let table = [
            "bash|-eo|pipefail|x",
            "bash|-oe|pipefail|x",
            "bash|-euxo|pipefail|x",
            "bash|-e|x",
            "bash|-eu|x",
            "bash|--noprofile|--norc|-eo|pipefail|x",
            "bash|--rcfile|/dev/null|x",
            "bash|-rcfile|/dev/null|x",
            "bash|-norc|x",
            "bash|--init-file|a|-O|extglob|x",
            "bash|+O|extglob|+e|x",
            "bash|--|x|-c",
            "bash|-|x",
            "bash|-oo|pipefail|errexit|x",
            "bash|--posix|-l|x|-c|y",
            "sh|-e|x",
            "dash|-eo|errexit|x",
            "sh|x|-e",
            "zsh|-oerrexit|x",
            "zsh|-eo|errexit|x",
            "zsh|--emulate|sh|x",
            "ksh|-o|errexit|x",
            "tcsh|-f|x",
            "fish|x",
            "fish|-C|set a|--profile|p|x",
            "fish|--init-command=a|x",
            "python3|x",
            "python3.11|-u|-W|ignore|x",
            "python3|-Wignore|x",
            "python3|-BuX|dev|x",
            "python3|-O|x",
            "python3|--check-hash-based-pycs|never|x",
            "python3|-I|x",
            "python3|-m|x",
            "python3|-um|x|y",
            "python3|-mx",
            "python3|-E|x",
            "python3|-ic|import a|y|x",
            "pypy3|--jit|off|x",
            "perl|-w|x",
            "perl|-I|lib|-Mstrict|x",
            "perl|-Ilib|x",
            "perl|-d:NYTProf|x",
            "perl|-i.e|x",
            "perl|-T|x",
            "perl|-l012|x",
            "ruby|-W0|-I|lib|-r|json|x",
            "ruby|--encoding|utf-8|x",
            "ruby|-W|x",
            "ruby|-rjson|x",
            "php|-d|a=b|x",
            "php|-f|x",
            "php|--file|x",
            "php|--file=x",
            "php|-S|127.0.0.1:80|x",
            "php|-c|php.ini|x",
            "node|--inspect|x",
            "node|-r|a|--import|b|x",
            "node|--require=a|x",
            "node|--max-old-space-size=9|x",
            "node|inspect|x",
            "deno|run|--allow-net|-c|deno.json|x",
            "deno|run|-A|x",
            "bun|run|x",
            "bun|run|--cwd|/a|x",
            "java|-cp|a|-Xmx1g|-Dc=d|x",
            "java|-cp|a|-jar|x|y",
            "java|--class-path=a|x",
            "java|-m|x",
            "java|-ea|x",
        ];
        for line in table {
            let expected = if line.contains("|-ic|") { None } else { Some("x") };
            assert_eq!(script(line), expected, "{line}");
        }
    }

    #[test]
    fn code_and_standard_input_are_no_script() {
        let table = [
            "bash|-c|x",
            "bash|-ec|x",
            "bash|-ce|x",
            "bash|-c|-e|x",
            "bash|-euo|pipefail|-c|x",
            "bash|-eoc|pipefail|x",
            "bash|--norc|-lc|x",
            "bash|-s|x",
            "bash|-es|--|x",
            "bash|-i",
            "bash",
            "sh|-xc|x",
            "sh|-c|--|x",
            "tcsh|-fc|x",
            "zsh|-fc|x",
            "fish|--command=x",
            "fish|--command|x",
            "fish|-c|x",
            "python3|-c|x",
            "python3|-uc|x",
            "python3|-Bc|x",
            "python3|-cx",
            "python3|-|x",
            "python3|-u|-|x",
            "python3|-i",
            "perl|-e|x",
            "perl|-lane|x|y",
            "perl|-ex|y",
            "perl|-de|1",
            "perl|-pi|-e|x|y",
            "perl|-|x",
            "ruby|-ne|x|y",
            "php|-r|x",
            "php|--|x",
            "php|--run|x",
            "node|-e|x",
            "node|-pe|x",
            "node|--eval|x",
            "node|-p|x",
            "node|-|x",
            "deno|eval|x",
            "deno|test|x",
            "bun|-e|x",
            "bun|test|x",
            "java|-version",
        ];
        for line in table {
            assert_eq!(script(line), None, "{line}");
        }
    }
}
