//! Help texts: the first paragraph of a flag's or subcommand's comment is its line in `--help`.

use syn::visit::{self, Visit};

use super::sources::SourceFile;

/// Characters of the longest short help, which fits beside the flag on a wide terminal.
const MAX_CHARACTERS: usize = 79;

/// The traits whose derivation turns comments into help texts.
const DERIVED: [&str; 4] = ["Args", "Parser", "Subcommand", "ValueEnum"];

/// Short helps that are too long.
pub fn long_helps(sources: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        Helps { path: &source.path, found: &mut found }.visit_file(&source.syntax);
    }
    found
}

struct Helps<'a> {
    path: &'a str,
    found: &'a mut Vec<String>,
}

impl Helps<'_> {
    fn check(&mut self, name: &syn::Ident, attributes: &[syn::Attribute]) {
        let help = first_paragraph(attributes);
        let length = help.chars().count();
        if length > MAX_CHARACTERS {
            let line = name.span().start().line;
            let message =
                format!("{}:{line}: the help of `{name}` has {length} characters; at most {MAX_CHARACTERS}", self.path);
            self.found.push(message);
        }
    }
}

impl<'ast> Visit<'ast> for Helps<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if derives_help(&item.attrs) {
            for field in &item.fields {
                field.ident.iter().for_each(|name| self.check(name, &field.attrs));
            }
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if derives_help(&item.attrs) {
            for variant in &item.variants {
                self.check(&variant.ident, &variant.attrs);
                for field in &variant.fields {
                    field.ident.iter().for_each(|name| self.check(name, &field.attrs));
                }
            }
        }
        visit::visit_item_enum(self, item);
    }
}

fn derives_help(attributes: &[syn::Attribute]) -> bool {
    let derives = |list: &syn::MetaList| {
        let tokens = list.tokens.to_string();
        list.path.is_ident("derive")
            && DERIVED.iter().any(|name| tokens.split(|c: char| !c.is_alphanumeric()).any(|part| part == *name))
    };
    attributes.iter().any(|attribute| attribute.meta.require_list().is_ok_and(derives))
}

/// The lines of a documentation comment up to the first empty one, joined.
fn first_paragraph(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let value = attribute.meta.require_name_value().ok().filter(|value| value.path.is_ident("doc"))?;
        match &value.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        }
    });
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(code: &str) -> usize {
        long_helps(&[SourceFile::parse("x.rs", code).expect("code")]).len()
    }

    #[test]
    fn finds_first_paragraphs_that_are_too_long() {
        let long = "word ".repeat(17);
        let code = |derive: &str, comment: &str| format!("#[derive({derive})] struct A {{ /// {comment}\n b: u8 }}");
        assert_eq!(count(&code("Debug, Args", &long)), 1);
        assert_eq!(count(&code("Debug", &long)), 0);
        assert_eq!(count(&code("clap::Args", &format!("Short\n///\n/// {long}"))), 0);
        assert_eq!(count(&format!("#[derive(Subcommand)] enum A {{ /// {long}\n B {{ /// {long}\n c: u8 }} }}")), 2);
    }
}
