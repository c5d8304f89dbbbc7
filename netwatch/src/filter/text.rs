//! A filter as text: the number of its instructions, then each in a line, as `tcpdump -ddd` prints
//! them.

use std::fmt;
use std::str::FromStr;

use super::{ClassicInstruction, FilterProgram};

impl fmt::Display for FilterProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.instructions().len())?;
        self.instructions()
            .iter()
            .try_for_each(|ClassicInstruction { code, jt, jf, k }| write!(f, "\n{code} {jt} {jf} {k}"))
    }
}

impl FromStr for FilterProgram {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let count = lines.next().and_then(|(_, line)| line.parse::<usize>().ok());
        let count = count.ok_or("the first line is not the number of instructions")?;
        let instructions = lines
            .map(|(at, line)| instruction(line).ok_or_else(|| format!("line {} is not `CODE JT JF K`", at + 1)))
            .collect::<Result<Vec<_>, _>>()?;
        if instructions.len() != count {
            return Err(format!("the number of instructions is {count}, and {} follow", instructions.len()));
        }
        Self::new(instructions)
    }
}

fn instruction(line: &str) -> Option<ClassicInstruction> {
    let mut fields = line.split_ascii_whitespace();
    let code = fields.next()?.parse().ok()?;
    let (jt, jf) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let k = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some(ClassicInstruction { code, jt, jf, k })
}

impl TryFrom<String> for FilterProgram {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FilterProgram> for String {
    fn from(program: FilterProgram) -> Self {
        program.to_string()
    }
}
