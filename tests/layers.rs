//! Imports between the files of `src`: no cycles, and none upward in the order of ARCHITECTURE.md.
//!
//! Checked on the source text: `use` declarations and paths such as `crate::a::b`. A name that a
//! file imports through another module counts as an import from the file that defines it.
//!
//! A `mod.rs` that re-exports a name of its children does not import it, unless its own code uses
//! the name. So a folder is no cycle only because its children use what the folder defines. Tests,
//! and calls of methods, which name no module, are left out.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Path of a module from the root of the crate, or of an item.
type ModulePath = Vec<String>;

/// An import: the path as written from the crate's root, and the name that it gets.
#[derive(Clone, Debug)]
struct Import {
    path: ModulePath,
    name: String,
    public: bool,
}

/// Source files by module, without tests, comments, and texts.
struct Sources {
    modules: BTreeMap<ModulePath, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    imports: Vec<Import>,
    /// Paths in the code outside of `use` declarations.
    paths: Vec<ModulePath>,
    /// Words of the code outside of `use` declarations.
    words: BTreeSet<String>,
    /// Names of the items that the code defines.
    defines: BTreeSet<String>,
}

/// Files that a file imports, each with the paths that it names.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Replaces comments and the contents of texts and characters with spaces.
fn blank_texts(code: &str) -> String {
    let chars: Vec<char> = code.chars().collect();
    let mut out = String::with_capacity(code.len());
    let mut i = 0;
    let starts =
        |i: usize, text: &str| text.chars().enumerate().all(|(k, c)| chars.get(i + k) == Some(&c));
    while i < chars.len() {
        let word_before = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
        let raw = (chars[i] == 'r' && !word_before)
            .then(|| chars[i + 1..].iter().take_while(|&&c| c == '#').count())
            .filter(|hashes| chars.get(i + 1 + hashes) == Some(&'"'));
        let end = if starts(i, "//") {
            (i..chars.len()).find(|&k| chars[k] == '\n').unwrap_or(chars.len())
        } else if starts(i, "/*") {
            (i + 2..chars.len()).find(|&k| starts(k, "*/")).map_or(chars.len(), |k| k + 2)
        } else if let Some(hashes) = raw {
            let close = format!("\"{}", "#".repeat(hashes));
            let first = i + hashes + 2;
            (first..chars.len())
                .find(|&k| starts(k, &close))
                .map_or(chars.len(), |k| k + 1 + hashes)
        } else if chars[i] == '"' {
            let mut k = i + 1;
            while k < chars.len() && chars[k] != '"' {
                k += if chars[k] == '\\' { 2 } else { 1 };
            }
            k + 1
        } else if chars[i] == '\'' && chars.get(i + 1) == Some(&'\\') {
            (i + 3..chars.len()).find(|&k| chars[k] == '\'').map_or(chars.len(), |k| k + 1)
        } else if chars[i] == '\'' && chars.get(i + 2) == Some(&'\'') {
            i + 3
        } else {
            out.push(chars[i]);
            i += 1;
            continue;
        };
        let end = end.min(chars.len());
        out.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

/// Returns the end of an item that starts at `from`: after its `;` or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if c == '}' && depth == 0 {
                    return from + at + 1;
                }
            }
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Removes the items behind `#[cfg(test)]`; returns the names of the files among them, too.
fn without_tests(mut code: String) -> (String, Vec<String>) {
    let mut files = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(").map(|at| at + from) {
        let close = at + code[at..].find(']').unwrap();
        let condition = &code[at..close];
        if !words(condition).contains("test") || condition.contains("not(test)") {
            from = close;
            continue;
        }
        // Other attributes stand between the condition and the item.
        let mut start = close + 1;
        while code[start..].trim_start().starts_with("#[") {
            start += code[start..].find(']').unwrap() + 1;
        }
        let end = item_end(&code, start);
        let item = code[start..end].trim();
        let name = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod "));
        files.extend(name.map(|(_, name)| name.trim().to_owned()));
        code.replace_range(at..end, "");
        from = at;
    }
    (code, files)
}

/// Returns the words of code, but for those after a dot: fields and methods.
fn words(code: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    code.split(|c| !word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the names of the items that code defines, methods included.
fn defined(code: &str) -> BTreeSet<String> {
    const KEYWORDS: [&str; 8] =
        ["const", "enum", "fn", "static", "struct", "trait", "type", "union"];
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let all: Vec<&str> = code.split(|c| !word(c)).filter(|word| !word.is_empty()).collect();
    let pairs = all.windows(2).filter(|pair| KEYWORDS.contains(&pair[0]));
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// Returns the paths of a `use` tree, each with the name that it gets.
fn use_tree(tree: &str, before: &[String]) -> Vec<(ModulePath, String)> {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut path = before.to_vec();
        path.extend(segments(&tree[..open]));
        let inner = &tree[open + 1..tree.rfind('}').unwrap()];
        let (mut depth, mut start, mut all) = (0, 0, Vec::new());
        for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inner[start..at].trim().is_empty() {
                        all.extend(use_tree(&inner[start..at], &path));
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return all;
    }
    let (path, name) = tree.split_once(" as ").map_or((tree, None), |(p, n)| (p, Some(n)));
    let mut all = before.to_vec();
    all.extend(segments(path));
    // `a::{self, b}` imports `a`.
    if all.len() > before.len() && all.last().is_some_and(|last| last == "self") && all.len() > 1 {
        all.pop();
    }
    let name =
        name.map_or_else(|| all.last().cloned().unwrap_or_default(), |n| n.trim().to_owned());
    vec![(all, name)]
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Returns the paths of two segments and more.
fn code_paths(code: &str) -> Vec<ModulePath> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !part(c)).filter(|path| path.contains("::")).map(segments).collect()
}

impl Sources {
    /// Reads files, given by path from `src` and code.
    fn new(files: &BTreeMap<String, String>) -> Sources {
        let mut sources = Sources { modules: BTreeMap::new() };
        let mut tests: Vec<ModulePath> = Vec::new();
        for (file, code) in files.iter().filter(|(file, _)| *file != "main.rs") {
            let mut path = segments(&file.trim_end_matches(".rs").replace('/', "::"));
            path.retain(|part| part != "mod" && part != "lib");
            let (code, gated) = without_tests(blank_texts(code));
            tests.extend(gated.into_iter().map(|name| [path.clone(), vec![name]].concat()));
            sources.add(path, file, &code);
        }
        let is_test = |path: &ModulePath| tests.iter().any(|test| path.starts_with(test));
        sources.modules.retain(|path, _| !is_test(path));
        sources
    }

    /// Adds a module with its inline modules.
    fn add(&mut self, path: ModulePath, file: &str, code: &str) {
        let mut rest = code.to_owned();
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let mut from = 0;
        while let Some(at) = rest[from..].find("mod ").map(|at| at + from) {
            from = at + 4;
            let boundary = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let Some(open) = rest[from..].find(['{', ';']).map(|open| open + from) else { break };
            let name = rest[from..open].trim().to_owned();
            let named = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if boundary && named && rest[open..].starts_with('{') {
                let end = item_end(&rest, at);
                let inner = rest[open + 1..end - 1].to_owned();
                rest.replace_range(at..end, "");
                self.add([path.clone(), vec![name]].concat(), file, &inner);
                from = at;
            } else if boundary && named {
                rest.replace_range(at..=open, "");
                from = at;
            }
        }
        from = 0;
        while let Some(at) = rest[from..].find("use ").map(|at| at + from) {
            let line = rest[..at].rfind(['\n', ';', '}', '{']).map_or(0, |line| line + 1);
            let before = rest[line..at].trim().to_owned();
            let public = before == "pub" || (before.starts_with("pub(") && before.ends_with(')'));
            if !before.is_empty() && !public {
                from = at + 4;
                continue;
            }
            let end = at + rest[at..].find(';').unwrap();
            for (path, name) in use_tree(&rest[at + 4..end], &[]) {
                module.imports.push(Import { path, name, public });
            }
            rest.replace_range(line..=end, "");
            from = line;
        }
        module.paths = code_paths(&rest);
        module.words = words(&rest.replace('.', " ."));
        module.defines = defined(&rest);
        self.modules.insert(path, module);
    }

    /// Returns the module that a path in `module` leads to, and what remains of the path.
    fn module_of(&self, module: &[String], path: &[String]) -> Option<(ModulePath, ModulePath)> {
        let mut rest = path;
        let mut at: ModulePath = match path.first()?.as_str() {
            "crate" => {
                rest = &rest[1..];
                Vec::new()
            }
            "self" => {
                rest = &rest[1..];
                module.to_vec()
            }
            "super" => {
                let mut at = module.to_vec();
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
                at
            }
            child => {
                let inner = [module, &[child.to_owned()]].concat();
                self.modules.contains_key(&inner).then(|| module.to_vec())?
            }
        };
        while let Some(part) = rest.first() {
            let inner = [at.clone(), vec![part.clone()]].concat();
            if !self.modules.contains_key(&inner) {
                break;
            }
            (at, rest) = (inner, &rest[1..]);
        }
        Some((at, rest.to_vec()))
    }

    /// Returns the module that defines what a path names, through all re-exports.
    fn definition(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (mut at, mut rest) = self.module_of(module, path)?;
        for _ in 0..self.modules.len() {
            let Some(name) = rest.first() else { break };
            let imports = &self.modules.get(&at)?.imports;
            let named = imports.iter().find(|import| import.name == *name);
            let whole = named.map(|import| [&import.path[..], &rest[1..]].concat());
            let whole = whole.or_else(|| {
                imports.iter().filter(|import| import.name == "*").find_map(|import| {
                    let path = &import.path[..import.path.len() - 1];
                    let (target, left) = self.module_of(&at, path)?;
                    let defines = &self.modules.get(&target)?.defines;
                    (left.is_empty() && defines.contains(name)).then(|| [path, &rest].concat())
                })
            });
            let Some((next, left)) = whole.and_then(|whole| self.module_of(&at, &whole)) else {
                break;
            };
            (at, rest) = (next, left);
        }
        Some(at)
    }

    /// Returns the imports between files.
    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (path, module) in &self.modules {
            let re_exported = |import: &Import| {
                let target = self.definition(path, &import.path);
                import.public
                    && !module.words.contains(&import.name)
                    && target.is_some_and(|target| target.starts_with(path))
            };
            let imports = module.imports.iter().filter(|import| !re_exported(import));
            let paths = imports.map(|import| &import.path).chain(&module.paths);
            let edges = graph.entry(module.file.clone()).or_default();
            for named in paths {
                let Some(target) = self.definition(path, named) else { continue };
                let Some(target) = self.modules.get(&target) else { continue };
                if target.file != module.file {
                    edges.entry(target.file.clone()).or_default().insert(named.join("::"));
                }
            }
        }
        graph
    }
}

/// Returns a cycle of every group of files that import each other, with what they import.
fn cycles(graph: &Graph) -> Vec<String> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for start in graph.keys() {
        if done.contains(start.as_str()) {
            continue;
        }
        // The shortest way back to `start`, by breadth.
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = vec![start.as_str()];
        let mut next = 0;
        while next < queue.len() && !before.contains_key(start.as_str()) {
            let file = queue[next];
            next += 1;
            for target in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
                if !before.contains_key(target.as_str()) {
                    before.insert(target, file);
                    queue.push(target);
                }
            }
        }
        if !before.contains_key(start.as_str()) {
            continue;
        }
        let mut way = vec![start.as_str()];
        while way.len() == 1 || way.last() != Some(&start.as_str()) {
            way.push(before[way[way.len() - 1]]);
        }
        way.reverse();
        done.extend(&way);
        let step = |pair: &[&str]| {
            let names = graph[pair[0]][pair[1]].iter().cloned().collect::<Vec<_>>().join(", ");
            format!("{} -> {} ({names})", pair[0], pair[1])
        };
        found.push(way.windows(2).map(step).collect::<Vec<_>>().join("; "));
    }
    found
}

/// Returns the top-level modules in the order of the table in ARCHITECTURE.md, lowest first.
fn layers(page: &str) -> Vec<String> {
    let table = page.split("| module | contents |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let first = |row: &str| row.split('|').nth(1).unwrap().to_owned();
    let mut all = Vec::new();
    for name in rows.flat_map(|row| {
        first(row).split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    }) {
        let top = name.split('/').next().unwrap().to_owned();
        if !all.contains(&top) {
            all.push(top);
        }
    }
    all
}

/// Returns the imports of a file from a higher layer.
fn upward(graph: &Graph, layers: &[String]) -> Vec<String> {
    let layer = |file: &str| {
        let top = file.split('/').next().unwrap().trim_end_matches(".rs");
        layers.iter().position(|layer| layer == top)
    };
    let mut found = Vec::new();
    for (file, targets) in graph.iter().filter(|(file, _)| *file != "lib.rs") {
        let Some(own) = layer(file) else {
            found.push(format!("{file}: not in the table of ARCHITECTURE.md"));
            continue;
        };
        for (target, names) in targets.iter().filter(|(target, _)| layer(target) > Some(own)) {
            let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
            found.push(format!("{file} -> {target} ({names})"));
        }
    }
    found
}

fn read(folder: &Path, root: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, root, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            all.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn files_import_downward_and_without_cycles() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read(&src, &src, &mut files);
    let graph = Sources::new(&files).graph();
    let imports: usize = graph.values().map(BTreeMap::len).sum();
    assert!(imports > graph.len(), "the scan found {imports} imports in {} files", graph.len());
    let page = include_str!("../ARCHITECTURE.md");
    assert_eq!(upward(&graph, &layers(page)), Vec::<String>::new(), "imports of higher layers");
    let found = cycles(&graph);
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
}

#[test]
fn cycles_and_upward_imports_are_detected() {
    let graph = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(file, code)| (file.to_string(), code.to_string())).collect();
        Sources::new(&files).graph()
    };
    // By `use`, by a path in the code, and through a re-export.
    let direct = graph(&[("a.rs", "use crate::b::B;"), ("b.rs", "fn f(_: super::a::A) {}")]);
    assert_eq!(cycles(&direct), ["a.rs -> b.rs (crate::b::B); b.rs -> a.rs (super::a::A)"]);
    let through = graph(&[
        ("a/mod.rs", "mod c; mod d; pub use c::{C, E as F};"),
        ("a/c.rs", "use super::d::D;"),
        ("a/d.rs", "use {std::fs, crate::a::F};"),
    ]);
    assert_eq!(
        cycles(&through),
        ["a/c.rs -> a/d.rs (super::d::D); a/d.rs -> a/c.rs (crate::a::F)"]
    );
    // A folder that only re-exports its child is no cycle; one that uses it is.
    let child = "use super::Own; pub struct C;";
    let only = [("a/mod.rs", "mod c; pub use c::C; pub struct Own;"), ("a/c.rs", child)];
    assert_eq!(cycles(&graph(&only)), Vec::<String>::new());
    let used = [("a/mod.rs", "mod c; pub use c::C; pub struct Own(C);"), ("a/c.rs", child)];
    assert_eq!(cycles(&graph(&used)).len(), 1);
    // Comments, texts, and tests don't count.
    let silent = graph(&[
        (
            "a.rs",
            "// crate::b::B\nconst T: &str = \"crate::b::B\"; const R: &str = r#\"\" crate::b::B\"#;",
        ),
        (
            "b.rs",
            "use crate::a::A;\n#[cfg(test)]\nmod tests { use crate::c::C; }\n#[cfg(test)] mod t;",
        ),
        ("b/t.rs", "use crate::c::C;"),
        ("c.rs", "use crate::b::B; fn f<'a>(x: &'a str) -> char { '\"' }"),
    ]);
    assert_eq!(cycles(&silent), Vec::<String>::new());
    assert_eq!(silent["c.rs"].len(), 1);
    let layers =
        layers("| module | contents |\n|---|---|\n| `a`, `b` | x |\n| `b/x` | x |\n\n| `c` |");
    assert_eq!(layers, ["a", "b"]);
    assert_eq!(upward(&direct, &layers), ["a.rs -> b.rs (crate::b::B)"]);
    assert_eq!(upward(&graph(&[("z.rs", "")]), &layers).len(), 1);
}
