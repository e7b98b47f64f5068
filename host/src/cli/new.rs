//! `host new`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::{cargo, print};

/// Make a new handler in Rust: a crate that builds, serves and passes its own test.
#[derive(Debug, Args)]
pub(super) struct New {
    /// The name of the crate and of its new directory, which may be a path.
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// What to begin with.
    #[arg(long, value_enum, value_name = "TEMPLATE", default_value = "rust")]
    template: Template,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Template {
    /// wasi:http 0.2, with the crate `wstd`.
    Rust,
    /// wasi:http 0.3, with the crate `wasip3`.
    RustP3,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let shown = self.path.display();
        let name = self
            .path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut mistakes = wrong_with(&name);
        if self.path.symlink_metadata().is_ok() {
            mistakes.push(format!(
                "there is something at `{shown}` already: choose another name, or move it away"
            ));
        }
        if !mistakes.is_empty() {
            bail!(
                "no handler `{shown}` can be made\n  {}",
                mistakes.join("\n  ")
            );
        }
        self.template
            .write(&self.path, &name)
            .with_context(|| format!("writing `{shown}`"))?;
        print(&format!(
            "made `{name}`, a handler for {}\nnext: cd {shown}; host dev .",
            self.template.interface()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl Template {
    fn interface(self) -> &'static str {
        match self {
            Self::Rust => "wasi:http 0.2",
            Self::RustP3 => "wasi:http 0.3",
        }
    }

    /// Each file's path in the crate, and its text.
    fn files(self) -> [(&'static str, &'static str); 5] {
        let (manifest, library) = match self {
            Self::Rust => (
                include_str!("../../templates/rust/crate.toml"),
                include_str!("../../templates/rust/lib.rs"),
            ),
            Self::RustP3 => (
                include_str!("../../templates/rust-p3/crate.toml"),
                include_str!("../../templates/rust-p3/lib.rs"),
            ),
        };
        [
            ("Cargo.toml", manifest),
            ("src/lib.rs", library),
            (
                "tests/answers.rs",
                include_str!("../../templates/answers.rs"),
            ),
            ("README.md", include_str!("../../templates/README.md")),
            (".gitignore", include_str!("../../templates/gitignore")),
        ]
    }

    fn filled(self, text: &str, name: &str) -> String {
        text.replace("{{name}}", name)
            .replace("{{interface}}", self.interface())
    }

    fn write(self, directory: &Path, name: &str) -> anyhow::Result<()> {
        for sub in ["src", "tests"] {
            std::fs::create_dir_all(directory.join(sub))?;
        }
        for (path, text) in self.files() {
            std::fs::write(directory.join(path), self.filled(text, name))?;
        }
        // A workspace whose `members` take it in has its own profiles, and suffers no other workspace
        // inside; any other workspace further up would refuse the crate if it were not one itself.
        if !cargo::is_member_of_another(directory) {
            let root = [self.files()[0].1, include_str!("../../templates/root.toml")].concat();
            std::fs::write(directory.join("Cargo.toml"), self.filled(&root, name))?;
        }
        Ok(())
    }
}

/// Names that a crate cannot have, or not one with these dependencies.
const TAKEN: &[&str] = &[
    "alloc",
    "core",
    "http",
    "proc-macro",
    "proc_macro",
    "std",
    "test",
    "wasip2",
    "wasip3",
    "wstd",
];

/// Of Rust 2024; in a path of modules they would have to be written `r#…`, and cargo refuses them.
const KEYWORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

fn wrong_with(name: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    if name.is_empty() {
        return vec!["it has no name: end the path with one, such as `shop`".to_owned()];
    }
    if name.starts_with(|c: char| !c.is_ascii_alphabetic()) {
        mistakes.push(format!(
            "the name `{name}` does not begin with a letter: cargo takes none other"
        ));
    }
    let strange: String = name
        .chars()
        .skip(1)
        .filter(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        .collect();
    if !strange.is_empty() {
        mistakes.push(format!(
            "the name `{name}` has `{}` in it: use letters, digits, `-` and `_`",
            strange.escape_debug()
        ));
    }
    if KEYWORDS.contains(&name) || TAKEN.contains(&name) {
        mistakes.push(format!(
            "the name `{name}` means something else in Rust: choose another, such as `my-{name}`"
        ));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for good in ["shop", "my-shop", "shop_2", "S"] {
            assert!(wrong_with(good).is_empty(), "{good}");
        }
        for (bad, mistakes) in [
            ("", 1),
            ("2shop", 1),
            ("my shop", 1),
            ("-a.b", 2),
            ("größe", 1),
            ("match", 1),
            ("http", 1),
        ] {
            assert_eq!(wrong_with(bad).len(), mistakes, "{bad}");
        }
    }

    #[test]
    fn no_placeholder_is_left_in_a_crate() {
        for template in [Template::Rust, Template::RustP3] {
            let parent = tempfile::tempdir().expect("a directory");
            let directory = parent.path().join("shop");
            template.write(&directory, "shop").expect("written");
            for (path, _) in template.files() {
                let text = std::fs::read_to_string(directory.join(path)).expect("a file");
                assert!(
                    !text.contains("{{name") && !text.contains("{{interface"),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn inside_a_workspace_it_is_a_member_or_a_workspace_of_its_own() {
        let outer = tempfile::tempdir().expect("a directory");
        let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"guests/*\"]\n";
        std::fs::write(outer.path().join("Cargo.toml"), workspace).expect("written");
        for (path, is_member) in [("guests/shop", true), ("elsewhere/shop", false)] {
            let directory = outer.path().join(path);
            Template::Rust.write(&directory, "shop").expect("written");
            assert_eq!(cargo::is_member_of_another(&directory), is_member, "{path}");
            let manifest =
                std::fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest");
            assert_eq!(manifest.contains("[workspace]"), !is_member, "{path}");
        }
    }
}
