//! The structure of `src`: no file imports, directly or through others, a file that imports it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::document::root;

/// A file: every path that it names, and its `use` items.
#[derive(Default)]
struct Module {
    paths: Vec<String>,
    /// Names that it exports, with their paths.
    exports: BTreeMap<String, String>,
    /// Paths of its `use` items.
    uses: Vec<String>,
}

/// The files by the paths of their modules from the crate's root: `volume::metadata`, and nothing for the root.
struct Crate(BTreeMap<String, Module>);

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

impl Crate {
    /// Follows the `mod` items from `lib.rs`. The text must be as rustfmt leaves it.
    fn read(src: &Path) -> Self {
        let mut this = Self(BTreeMap::new());
        this.read_module(&src.join("lib.rs"), src, "");
        this
    }

    fn read_module(&mut self, file: &Path, directory: &Path, name: &str) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // Comments import nothing, nor does `pub(in crate::node)`. Items for tests and fuzzing may import what they want.
        let text = regex(r"(?m)(?:^|\s)//.*$|\(in [\w:]+\)").replace_all(&text, "");
        let text = regex(r"(?m)^#\[cfg\((?:.*\n)*?(?:\S.*;|\})$").replace_all(&text, "");
        for child in regex(r"(?m)^(?:pub(?:\(\w+\))? )?mod (\w+);").captures_iter(&text) {
            let path = directory.join(&child[1]);
            self.read_module(&path.with_extension("rs"), &path, &join(name, &child[1]));
        }
        let mut text = text.into_owned();
        // `a::{b, c::d}` is `a::b, a::c::d`, from the inside out.
        let group = regex(r"((?:\w+::)+)\{([^{}]*)\}");
        while let Some(found) = group.captures(&text) {
            let leaves = found[2].split(',').map(str::trim).filter(|leaf| !leaf.is_empty());
            let leaves: Vec<_> = leaves.map(|leaf| [&found[1], leaf].concat()).collect();
            let range = found.get(0).unwrap().range();
            text.replace_range(range, &leaves.join(", "));
        }
        let mut module = Module::default();
        for item in regex(r"(?m)^ *(pub(?:\(\w+\))? )?use ([^;]+);").captures_iter(&text) {
            for leaf in item[2].split(',').map(str::trim) {
                let (path, alias) = leaf.split_once(" as ").unwrap_or((leaf, leaf));
                module.uses.push(path.to_owned());
                if item.get(1).is_some() {
                    let name = alias.rsplit("::").next().unwrap();
                    module.exports.insert(name.to_owned(), path.to_owned());
                }
            }
        }
        module.paths =
            regex(r"\w+(?:::(?:\w+|\*))+").find_iter(&text).map(|path| path.as_str().to_owned()).collect();
        self.0.insert(name.to_owned(), module);
    }

    /// The file that declares what a path names, as seen from `module`; `None` in the file itself and in other crates.
    fn resolve(&self, module: &str, path: &str) -> Option<String> {
        let parent = |module: &str| module.rsplit_once("::").map_or("", |(parent, _)| parent).to_owned();
        let mut at = module.to_owned();
        for name in path.split("::") {
            let child = join(&at, name);
            match name {
                "crate" => at.clear(),
                "super" => at = parent(&at),
                "self" => {}
                _ if self.0.contains_key(&child) => at = child,
                _ if at == module => return None,
                _ => {
                    return self.0[&at]
                        .exports
                        .get(name)
                        .map_or(Some(at.clone()), |path| self.resolve(&at, path));
                }
            }
        }
        (at != module).then_some(at)
    }

    /// The files that each file imports.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let of = |name: &str, module: &Module| {
            module.paths.iter().filter_map(|path| self.resolve(name, path)).collect()
        };
        self.0.iter().map(|(name, module)| (name.as_str(), of(name, module))).collect()
    }

    /// Imports that are part of a cycle: those that are left when files that import none and files that none imports are
    /// taken away, again and again.
    fn cyclic_imports(&self) -> BTreeSet<String> {
        let imports = self.imports();
        let edges = imports.iter().flat_map(|(from, files)| files.iter().map(move |to| (*from, to.as_str())));
        let mut edges: Vec<_> = edges.collect();
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

fn crate_of_files(files: &[(&str, &str)]) -> Crate {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Crate::read(directory.path())
}

#[test]
fn cycles_are_found_through_re_exports_and_paths() {
    let lib = ("lib.rs", "mod a;\nmod b;\nmod c;\n");
    let a = ("a.rs", "mod inner;\npub use inner::Inner;\npub struct Outer;\n");
    let b = ("b.rs", "use crate::a::Outer;\npub fn f() { super::a::inner::g() }\n");
    let b_of_exports = ("b.rs", "use crate::{\n    a::{Inner, Outer},\n};\n");
    let b_of_inner = ("b.rs", "use crate::a::Inner;\n");
    let c = ("c.rs", "use crate::{a::*, b};\n");
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
        let cyclic = crate_of_files(&[&[lib, c], &files[..]].concat()).cyclic_imports();
        assert_eq!(cyclic, expected.iter().map(|import| (*import).to_owned()).collect(), "{files:?}");
    }
}

fn this_crate() -> Crate {
    Crate::read(&root().join("src"))
}

#[test]
fn no_file_imports_one_that_imports_it() {
    assert_eq!(this_crate().cyclic_imports(), BTreeSet::new());
}

#[test]
fn the_domain_knows_only_itself() {
    let src = this_crate();
    assert!(src.0.len() > 80, "{:?}", src.0.keys());
    for (name, imports) in src.imports() {
        let allowed: &[&str] = match top(name) {
            "volume" => &["volume"],
            "snapshot" => &["volume", "snapshot"],
            _ => continue,
        };
        let others: Vec<_> = imports.iter().filter(|import| !allowed.contains(&top(import))).collect();
        assert_eq!(others, [""; 0], "imports of {name}");
        let is_other = |path: &&String| {
            let first = top(path);
            !["crate", "self", "super", "std"].contains(&first) && !src.0.contains_key(&join(name, first))
        };
        let others: Vec<_> = src.0[name].uses.iter().filter(is_other).collect();
        assert_eq!(others, [""; 0], "crates of {name}");
    }
}

/// The first part of a path.
fn top(path: &str) -> &str {
    path.split("::").next().unwrap()
}
