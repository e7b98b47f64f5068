//! The house itself: arrows point down, and only two rooms know wasmtime.

use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Modules from top to bottom. Those without a comment between them share a group.
fn groups() -> Vec<Vec<String>> {
    let lib = fs::read_to_string(Path::new(SOURCE).join("lib.rs")).expect("lib.rs");
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in lib.lines() {
        if line.starts_with("// ") {
            groups.push(Vec::new());
        } else if let Some(name) = line
            .strip_prefix("pub mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            groups
                .last_mut()
                .expect("a comment above each group")
                .push(name.to_owned());
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Each source file with the module that it belongs to.
fn files() -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(SOURCE)];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory)
            .expect("read")
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path
                    .strip_prefix(SOURCE)
                    .expect("inside")
                    .with_extension("");
                let module = inside
                    .iter()
                    .next()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                files.push((module, path));
            }
        }
    }
    files
}

/// The lines of a file that are code, and not under its tests.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("read");
    let product = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    product.lines().filter(is_code).map(str::to_owned).collect()
}

/// The modules that a line names after `crate::`, also in braces.
fn named(line: &str, modules: &[String]) -> Vec<String> {
    let parts = line.split("crate::").skip(1);
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    parts
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(|name| word(name.trim())).collect(),
            None => vec![word(rest)],
        })
        .filter(|name| modules.contains(name))
        .collect()
}

#[test]
fn a_module_uses_only_what_is_below_it_or_beside_it() {
    let groups = groups();
    let modules: Vec<String> = groups.concat();
    assert!(modules.len() > 10, "{modules:?}");
    let floor = |module: &str| {
        groups
            .iter()
            .position(|group| group.iter().any(|name| name == module))
    };
    let mut arrows = 0;
    for (module, path) in files()
        .iter()
        .filter(|(module, _)| !matches!(module.as_str(), "lib" | "main"))
    {
        let from = floor(module).unwrap_or_else(|| panic!("`{module}` is not in lib.rs"));
        for line in code(path) {
            for used in named(&line, &modules) {
                arrows += 1;
                let to = floor(&used).expect("listed");
                assert!(
                    to >= from,
                    "{} uses `{used}`, which is above it: {line}",
                    path.display()
                );
            }
        }
    }
    assert!(arrows > 20, "the arrows are not seen: {arrows}");
}

#[test]
fn only_engine_and_capabilities_name_wasmtime() {
    let mut seen = false;
    for (module, path) in files() {
        let names = code(&path).iter().any(|line| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| matches!(word, "wasmtime" | "wasmtime_wasi" | "wasmtime_wasi_http"))
                && !line.contains('"')
        });
        seen |= names;
        assert!(
            !names || matches!(module.as_str(), "engine" | "capabilities"),
            "{} names wasmtime",
            path.display()
        );
    }
    assert!(
        seen,
        "nobody names wasmtime: the test looks in the wrong place"
    );
}

#[test]
fn the_binary_is_about_thirty_lines() {
    let main = fs::read_to_string(Path::new(SOURCE).join("main.rs")).expect("main.rs");
    assert!(main.lines().count() <= 40);
}

#[test]
fn every_test_file_is_in_the_table_of_contents() {
    let main = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/main.rs"))
        .expect("main.rs");
    let head: Vec<&str> = main
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let modules = main
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    for module in modules {
        let entry = format!("`{module}`");
        assert!(
            head.iter().any(|line| line.contains(&entry)),
            "{entry} is missing"
        );
    }
}

#[test]
fn a_test_that_is_skipped_says_so_although_it_passes() {
    let own = std::env::current_exe().expect("this program");
    let ran = std::process::Command::new(own)
        .args(["--exact", "keyvalue::hosts_share_what_is_in_a_redis"])
        .env("PATH", "/nowhere")
        .env_remove("RUST_TEST_NOCAPTURE")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("SKIPPED"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("`apt-get install redis-server`"));
}
