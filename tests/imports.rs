//! The structure of `src`: no file imports, directly or through others, a file that imports it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree};

/// The path of a module from the crate's root: `["volume", "metadata"]`.
type ModulePath = Vec<String>;

/// A file: what it declares, what it re-exports, and every path that it names.
#[derive(Default)]
struct Module {
    items: BTreeSet<String>,
    exports: BTreeMap<String, ModulePath>,
    paths: Vec<ModulePath>,
    /// Other crates in its `use` items.
    crates: BTreeSet<String>,
}

struct Crate(BTreeMap<ModulePath, Module>);

impl Crate {
    fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_module(&src.join("lib.rs"), src, &[], &mut modules);
        Self(modules)
    }

    /// The file that declares what a path names, as seen from `module`; `None` outside of the crate.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (vec![], rest),
            "self" => (module.to_vec(), rest),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), rest),
            _ => (module.to_vec(), path),
        };
        while let Some((name, after)) = rest.split_first() {
            let child = [&at[..], std::slice::from_ref(name)].concat();
            if name == "super" {
                at.pop()?;
            } else if self.0.contains_key(&child) {
                at = child;
            } else {
                break;
            }
            rest = after;
        }
        let name = rest.first();
        let found = &self.0[&at];
        match name {
            Some(name) if found.items.contains(name) => Some(at),
            Some(name) => match found.exports.get(name) {
                Some(target) if at != module => self.resolve(&at, target),
                _ => (at != module).then_some(at),
            },
            None => Some(at),
        }
    }

    /// The files that each file imports.
    fn imports(&self) -> BTreeMap<&ModulePath, BTreeSet<ModulePath>> {
        let of = |(name, module): (&ModulePath, &Module)| {
            let files = module.paths.iter().filter_map(|path| self.resolve(name, path));
            files.filter(|file| file != name).collect()
        };
        self.0.iter().map(|entry| (entry.0, of(entry))).collect()
    }
}

fn read_module(file: &Path, directory: &Path, name: &[String], modules: &mut BTreeMap<ModulePath, Module>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut module = Module::default();
    module.visit_file(&parsed);
    for item in &parsed.items {
        if let Item::Mod(child) = item
            && child.content.is_none()
            && !is_left_out(&child.attrs)
        {
            let child = child.ident.to_string();
            let path = [name, std::slice::from_ref(&child)].concat();
            read_module(&directory.join(format!("{child}.rs")), &directory.join(&child), &path, modules);
        }
    }
    modules.insert(name.to_vec(), module);
}

/// Tests and fuzzing may import what they want.
fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

impl Visit<'_> for Module {
    fn visit_item(&mut self, item: &Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Mod(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, None),
            _ => panic!("an item of a kind that this test does not know"),
        };
        if is_left_out(attributes) {
            return;
        }
        self.items.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        let is_export = !matches!(item.vis, syn::Visibility::Inherited);
        for (name, path) in leaves(&item.tree) {
            let is_local = matches!(path[0].as_str(), "crate" | "self" | "super");
            if !is_local {
                self.crates.insert(path[0].clone());
            }
            if is_export {
                self.exports.insert(name, path.clone());
            }
            self.paths.push(path);
        }
    }

    /// `pub(in crate::node)` imports nothing.
    fn visit_visibility(&mut self, _: &syn::Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// The names that a `use` brings in, each with its path.
fn leaves(tree: &UseTree) -> Vec<(String, ModulePath)> {
    let below = |name: String, tree: &UseTree| {
        let leaves = leaves(tree).into_iter();
        leaves.map(|(leaf, path)| (leaf, [vec![name.clone()], path].concat())).collect()
    };
    match tree {
        UseTree::Path(path) => below(path.ident.to_string(), &path.tree),
        UseTree::Name(name) => vec![(name.ident.to_string(), vec![name.ident.to_string()])],
        UseTree::Rename(rename) => vec![(rename.rename.to_string(), vec![rename.ident.to_string()])],
        UseTree::Glob(_) => vec![("*".into(), vec!["*".into()])],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// For each file that imports itself through others, the shortest way; each cycle once.
fn cycles(imports: &BTreeMap<&ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for start in imports.keys() {
        let Some(way) = way_back(start, imports) else {
            continue;
        };
        let way: Vec<String> = way.iter().map(|name| name.join("::")).collect();
        if !found.iter().any(|known| known.len() == way.len() && way.iter().all(|name| known.contains(name)))
        {
            found.push(way);
        }
    }
    found
}

fn way_back(
    start: &ModulePath,
    imports: &BTreeMap<&ModulePath, BTreeSet<ModulePath>>,
) -> Option<Vec<ModulePath>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in &imports[way.last()?] {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back([&way[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

fn crate_of_files(files: &[(&str, &str)]) -> Crate {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Crate::read(directory.path())
}

#[test]
fn a_cycle_is_found_through_re_exports_and_paths() {
    let lib = ("lib.rs", "mod a; mod b;");
    let inner = ("a/inner.rs", "pub struct Inner;");
    let cyclic = [
        lib,
        inner,
        ("a.rs", "mod inner; pub use inner::Inner; pub struct Outer;"),
        ("b.rs", "use crate::a::Outer; pub fn f() { super::a::inner::g() }"),
        ("a/inner.rs", "pub struct Inner(crate::b::B);"),
    ];
    let found = |files: &[(&str, &str)]| cycles(&crate_of_files(files).imports());
    assert_eq!(found(&cyclic), [vec!["a", "a::inner", "b"], vec!["a::inner", "b"]]);
    let acyclic = [
        lib,
        inner,
        ("a.rs", "mod inner; pub use inner::Inner; pub struct Outer(Inner);"),
        ("b.rs", "use crate::a::{Inner, Outer};"),
    ];
    assert_eq!(found(&acyclic), [[""; 0]; 0]);
    let itself = [lib, inner, ("b.rs", ""), ("a.rs", "mod inner; use self::inner::Inner; pub struct Outer;")];
    let of_parent = ("a/inner.rs", "use super::Outer; pub struct Inner;");
    assert_eq!(found(&[&itself[..], &[of_parent]].concat()), [["a", "a::inner"]]);
    let in_tests = ("a/inner.rs", "pub struct Inner; #[cfg(test)] mod tests { use super::super::Outer; }");
    assert_eq!(found(&[&itself[..], &[in_tests]].concat()), [[""; 0]; 0]);
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let src = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let cycles: Vec<_> = cycles(&src.imports()).iter().map(|way| way.join(" -> ")).collect();
    assert!(cycles.is_empty(), "import cycles:\n{}", cycles.join("\n"));
}

#[test]
fn the_domain_knows_only_itself() {
    let src = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for (name, imports) in src.imports() {
        let allowed: &[&str] = match name.first().map(String::as_str) {
            Some("volume") => &["volume"],
            Some("snapshot") => &["volume", "snapshot"],
            _ => continue,
        };
        let name = name.join("::");
        for import in imports {
            assert!(allowed.contains(&import[0].as_str()), "{name} imports {}", import.join("::"));
        }
    }
    for (name, module) in &src.0 {
        if matches!(name.first().map(String::as_str), Some("volume" | "snapshot")) {
            let own =
                |of: &&String| *of != "std" && !src.0.contains_key(&[&name[..], &[(*of).clone()]].concat());
            let others: Vec<_> = module.crates.iter().filter(own).collect();
            assert!(others.is_empty(), "{} imports {others:?}", name.join("::"));
        }
    }
}
