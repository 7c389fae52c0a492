use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;

use crate::support::document::{files, read, root, table};
use crate::support::families::families;

/// Every Rust file below a directory.
fn sources(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.filter(|path| path.is_dir()).flat_map(|path| sources(path.to_str().unwrap()));
    files(directory, "rs").into_iter().chain(below).collect()
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for file in ["src", "tests", "fuzz/fuzz_targets"].into_iter().flat_map(sources) {
        let text = read(&file);
        let lines = text.lines().count();
        assert!(lines <= 400, "{file} has {lines} lines");
        let is_exempt = file.starts_with("tests/") || file.ends_with("/tests.rs");
        assert!(is_exempt || text.starts_with("//! "), "{file}");
    }
}

#[test]
fn every_log_line_has_an_event() {
    let line = Regex::new(r"tracing::(?:error|warn|info|debug|trace)!\(").unwrap();
    let event = Regex::new(r#"^\s*event = "[a-z_]+""#).unwrap();
    let mut lines = 0;
    for file in sources("src") {
        for (number, fields) in line.split(&read(&file)).enumerate().skip(1) {
            assert!(event.is_match(fields), "log line {number} of {file}");
            lines += 1;
        }
    }
    assert!(lines > 20, "{lines}");
}

/// The first two columns of a table of the README.
fn columns(heading: &str) -> Vec<[String; 2]> {
    let code = |cell: &String| cell.trim_matches('`').to_owned();
    table("README.md", heading).iter().map(|row| [code(&row[0]), code(&row[1])]).collect()
}

#[test]
fn readme_and_changelog_have_the_programs_metrics() {
    let rows = columns("## Metrics");
    let documented: BTreeMap<&str, &str> = rows.iter().map(|[name, kind]| (&**name, &**kind)).collect();
    let families = families();
    assert_eq!((&documented, rows.len()), (&families, families.len()));
    let changelog = read("CHANGELOG.md");
    for name in families.keys() {
        assert!(changelog.contains(&format!("`{name}`")), "CHANGELOG.md: {name}");
    }
}

#[test]
fn readme_has_the_programs_flags() {
    let command = Args::command();
    let flags = command.get_arguments().filter_map(|arg| {
        let env = arg.get_env()?.to_str().unwrap();
        Some([format!("--{}", arg.get_long().unwrap()), env.to_owned()])
    });
    assert_eq!(BTreeSet::from_iter(columns("## Flags")), flags.collect());
}

/// Modules by their paths from the crate's root, such as `volume::metadata`; the root's is empty. One is a file.
#[derive(Default)]
struct Crate {
    /// Every path that a module names.
    paths: BTreeMap<String, Vec<String>>,
    /// By the path of the new name: the path that a module re-exports, as the module writes it.
    exports: BTreeMap<String, String>,
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

impl Crate {
    /// Follows the `mod` items from `lib.rs`. The text must be as rustfmt leaves it.
    fn read(src: &Path) -> Self {
        let [ignored, conditional, child, group, export, path] = [
            // Comments, and the visibility `pub(in crate::node)`.
            r"(?m)(?:^|\s)//.*$|\(in [\w:]+\)",
            // Items for tests and fuzzing may import what they want.
            r"(?m)^#\[cfg\((?:.*\n)*?(?:\S.*;|\})$",
            r"(?m)^(?:pub(?:\(\w+\))? )?mod (\w+);",
            r"((?:\w+::)+)\{([^{}]*)\}",
            r"(?m)^pub(?:\(\w+\))? use ([^;]+);",
            r"\w+(?:::(?:\w+|\*))+",
        ]
        .map(|pattern| Regex::new(pattern).unwrap());
        let mut this = Self::default();
        let mut modules = vec![String::new()];
        while let Some(module) = modules.pop() {
            let file = if module.is_empty() { "lib".into() } else { module.replace("::", "/") };
            let text = read(src.join(file).with_extension("rs"));
            let mut text = conditional.replace_all(&ignored.replace_all(&text, ""), "").into_owned();
            modules.extend(child.captures_iter(&text).map(|child| join(&module, &child[1])));
            // `a::{b, c::d}` is `a::b, a::c::d`, from the inside out.
            while let Some(found) = group.captures(&text) {
                let leaves = found[2].split(',').map(str::trim).filter(|leaf| !leaf.is_empty());
                let leaves: Vec<_> = leaves.map(|leaf| [&found[1], leaf].concat()).collect();
                let range = found.get(0).unwrap().range();
                text.replace_range(range, &leaves.join(", "));
            }
            for leaf in export.captures_iter(&text).flat_map(|export| export.extract::<1>().1[0].split(',')) {
                let (path, alias) = leaf.trim().split_once(" as ").unwrap_or((leaf.trim(), leaf));
                let name = alias.rsplit("::").next().unwrap();
                this.exports.insert(join(&module, name), path.to_owned());
            }
            let paths = path.find_iter(&text).map(|path| path.as_str().to_owned());
            this.paths.insert(module, paths.collect());
        }
        this
    }

    /// The module that declares what a path names; `None` in the naming module itself and in other crates.
    fn resolve(&self, module: &str, path: &str) -> Option<String> {
        let mut at = module.to_owned();
        for name in path.split("::") {
            let child = join(&at, name);
            match name {
                "crate" => at.clear(),
                "super" => at.truncate(at.rfind("::").unwrap_or(0)),
                "self" => {}
                _ if self.paths.contains_key(&child) => at = child,
                _ if at == module => return None,
                _ => {
                    return self.exports.get(&child).map_or(Some(at.clone()), |path| self.resolve(&at, path));
                }
            }
        }
        (at != module).then_some(at)
    }

    /// Each module with each that it imports.
    fn imports(&self) -> BTreeSet<(&str, String)> {
        let paths =
            self.paths.iter().flat_map(|(module, paths)| paths.iter().map(move |path| (module, path)));
        paths.filter_map(|(module, path)| Some((module.as_str(), self.resolve(module, path)?))).collect()
    }

    /// Imports that are part of a cycle or between cycles: those that are left when modules that import none, and modules
    /// that none imports, are taken away again and again.
    fn cyclic_imports(&self) -> Vec<String> {
        let imports = self.imports();
        let mut edges: Vec<_> = imports.iter().map(|(from, to)| (*from, to.as_str())).collect();
        loop {
            let (from, to): (BTreeSet<_>, BTreeSet<_>) = edges.iter().copied().unzip();
            let count = edges.len();
            edges.retain(|edge| from.contains(edge.1) && to.contains(edge.0));
            if edges.len() == count {
                return edges.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
            }
        }
    }
}

#[test]
fn cycles_are_found_through_re_exports_and_paths() {
    let a = ("a.rs", "mod inner;\npub use inner::Inner;\npub struct Outer;\n");
    let b = ("b.rs", "use crate::a::Outer;\npub fn f() { super::a::inner::g() }\n");
    let b_of_exports = ("b.rs", "use crate::{\n    a::{Inner, Outer},\n};\n");
    let b_of_inner = ("b.rs", "use crate::a::Inner;\n");
    let inner = ("a/inner.rs", "pub struct Inner;\n// crate::b::B\n");
    let inner_of_b = ("a/inner.rs", "pub struct Inner(crate::b::B);\n");
    let inner_of_a = ("a/inner.rs", "pub(in crate::b) use super::{Outer as Other};\npub struct Inner;\n");
    let inner_tested =
        ("a/inner.rs", "#[cfg(test)]\nmod tests {\n    use super::super::Outer;\n}\npub struct Inner;\n");
    for (files, expected) in [
        ([a, b, inner_of_b], &["a -> a::inner", "a::inner -> b", "b -> a", "b -> a::inner"][..]),
        ([a, b_of_inner, inner_of_b], &["a::inner -> b", "b -> a::inner"]),
        ([a, b_of_exports, inner_of_a], &["a -> a::inner", "a::inner -> a"]),
        ([a, b_of_exports, inner], &[]),
        ([a, b, inner_tested], &[]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        let others = [("lib.rs", "mod a;\nmod b;\nmod c;\n"), ("c.rs", "use crate::{a::*, b};\n")];
        for (name, text) in others.iter().chain(&files) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        assert_eq!(Crate::read(directory.path()).cyclic_imports(), expected, "{files:?}");
    }
}

#[test]
fn no_file_imports_one_that_imports_it() {
    assert_eq!(Crate::read(&root().join("src")).cyclic_imports(), [""; 0]);
}

#[test]
fn the_domain_knows_only_itself() {
    let src = Crate::read(&root().join("src"));
    let top = |path: &str| path.split("::").next().unwrap().to_owned();
    let is_domain = |module: &str| ["volume", "snapshot"].contains(&&*top(module));
    let imports = src.imports().into_iter().filter(|(from, _)| is_domain(from));
    let imports: BTreeSet<_> = imports.map(|(from, to)| format!("{} -> {}", top(from), top(&to))).collect();
    let expected = ["snapshot -> snapshot", "snapshot -> volume", "volume -> volume"];
    assert!(imports.iter().all(|import| expected.contains(&&**import)), "{imports:?}");
    let paths = src.paths.iter().filter(|(module, _)| is_domain(module)).flat_map(|(_, paths)| paths);
    let tops: BTreeSet<String> = paths.map(|path| top(path)).collect();
    let manifest = read("Cargo.toml");
    let crates = manifest.lines().filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")));
    let crates: BTreeSet<String> = crates.collect();
    assert!(tops.contains("std") && crates.contains("serde"), "{tops:?} {crates:?}");
    assert!(tops.is_disjoint(&crates), "{tops:?}");
}
