//! Checks of sources and pages: imports between layers and modules agree with docs/ARCHITECTURE.md,
//! files that pages name exist, and the rules of style hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::{quoted, root, sources};

type Uses = BTreeMap<String, BTreeSet<String>>;

/// The rows of the table whose first heading is `heading`: the names that each one may use.
fn drawn(heading: &str) -> Uses {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page");
    let start = format!("| {heading} | uses |");
    let lines = page.lines().skip_while(|line| !line.starts_with(&start)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let uses = quoted(cells[2]).map(str::to_owned).collect();
        (quoted(cells[1]).next().expect("a name").to_owned(), uses)
    });
    rows.collect()
}

/// The code of a file without its comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The words after `path` in the code: after `crate::` in `crate::kernel::Kernel` it is `kernel`.
fn follow<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(path).map(move |(at, _)| {
        let rest = &code[at + path.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The `names` that the sources below a directory use, without its own.
fn used(directory: &str, path: &str, names: &BTreeSet<String>) -> BTreeSet<String> {
    let own = directory.rsplit('/').next().expect("a name");
    let texts: Vec<String> = sources(directory).values().map(|text| code(text)).collect();
    assert!(!texts.is_empty(), "there is no {directory}");
    let words = texts.iter().flat_map(|text| follow(text, path));
    words.filter(|word| names.contains(*word) && *word != own).map(str::to_owned).collect()
}

#[test]
fn layers_use_what_the_page_says() {
    let mut layers = drawn("layer");
    let mut names: BTreeSet<String> = layers.keys().cloned().collect();
    names.extend(["sync", "cli"].map(str::to_owned));
    for entry in fs::read_dir(root().join("src")).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(!path.is_dir() || name == "cli" || layers.contains_key(&name), "{name}");
    }
    for (layer, uses) in &mut layers {
        assert_eq!(used(&format!("src/{layer}"), "crate::", &names), *uses, "{layer} uses");
    }
}

#[test]
fn modules_use_what_the_page_says() {
    let modules = drawn("module");
    let names: BTreeSet<String> =
        modules.keys().map(|name| name.rsplit('/').next().expect("a name").to_owned()).collect();
    for (module, uses) in &modules {
        assert_eq!(
            used(&format!("src/{module}"), "crate::kernel::", &names),
            *uses,
            "{module} uses"
        );
    }
}

/// Files of the model that import each other, directly or through other files, are in one module.
#[test]
fn files_that_import_each_other_are_in_one_module() {
    let files: BTreeMap<String, String> = sources("src/kernel")
        .iter()
        .map(|(path, text)| (module(path), code(text)))
        .filter(|(name, _)| name.contains("::"))
        .collect();
    let uses: Uses = files
        .iter()
        .map(|(name, text)| {
            let others = files.keys().filter(|other| {
                *other != name && text.contains(&format!("crate::kernel::{other}::"))
            });
            (name.clone(), others.cloned().collect())
        })
        .collect();
    let directory = |name: &str| name.split_once("::").expect("a module").0.to_owned();
    for name in files.keys() {
        for other in reached(name, &uses) {
            let back = reached(&other, &uses).contains(name);
            assert!(
                !back || directory(name) == directory(&other),
                "{name} and {other} use each other"
            );
        }
    }
}

/// `state::task` for src/kernel/state/task.rs.
fn module(path: &Path) -> String {
    let path = path.strip_prefix(root().join("src/kernel")).expect("a file of the model");
    path.with_extension("").to_str().expect("a name").replace('/', "::")
}

/// The transitive imports of a file.
fn reached(name: &str, uses: &Uses) -> BTreeSet<String> {
    let (mut reached, mut new) = (BTreeSet::new(), vec![name.to_owned()]);
    while let Some(next) = new.pop() {
        let more = uses.get(&next).into_iter().flatten();
        new.extend(more.filter(|other| reached.insert((*other).clone())).cloned());
    }
    reached
}

/// The glossary is sorted, and each term has a sentence and a source.
#[test]
fn the_glossary_has_a_sentence_and_a_source_for_each_term() {
    let page = fs::read_to_string(root().join("docs/GLOSSARY.md")).expect("the page");
    let start = "| term | meaning | source |";
    let lines = page.lines().skip_while(|line| *line != start).skip(2);
    let mut terms = Vec::new();
    for line in lines.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", term, meaning, source, ""] = &cells[..] else { panic!("{line}") };
        assert!(meaning.ends_with('.') && !source.is_empty(), "{term}");
        terms.push(term.to_lowercase());
    }
    assert!(terms.len() > 50 && terms.is_sorted(), "{terms:?}");
}

/// The files that CONTRIBUTING.md names exist, and its scenario is one of the tests.
#[test]
fn the_files_that_contributing_names_exist() {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("the page");
    let directories = ["src/", "tests/", "benches/", "docs/", "fuzz/", ".ci/", "examples/"];
    let is_path = |word: &&str| directories.iter().any(|directory| word.starts_with(directory));
    let is_word = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = page.split(|c: char| !is_word(c)).map(|word| word.trim_end_matches('.'));
    for path in words.filter(is_path) {
        assert!(root().join(path).exists() || path.contains("target"), "there is no {path}");
    }
    let rules = fs::read_to_string(root().join("tests/suite/rules.rs")).expect("the scenes");
    let block = page.split("```").find_map(|block| block.strip_prefix("rust,ignore\n"));
    let block =
        block.expect("a scenario").lines().map(|line| line.strip_prefix("   ").unwrap_or(""));
    let scene = block.collect::<Vec<_>>().join("\n");
    assert!(rules.contains(scene.trim_end()), "not in tests/suite/rules.rs: {scene}");
}

/// The sources that ARCHITECTURE.md names exist.
#[test]
fn the_files_that_architecture_names_exist() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page");
    let mut paths: Vec<PathBuf> = sources("src").into_keys().collect();
    paths.extend(sources("tests").into_keys());
    let named: Vec<&str> = quoted(&page).filter(|name| name.ends_with(".rs")).collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        assert!(paths.iter().any(|path| path.ends_with(name)), "there is no {name}");
    }
}

/// Each test and each module of tests that a page names by its path exists. A name may be the
/// beginning of a test's name, as `cargo test --features cli` takes it.
#[test]
fn the_tests_that_pages_name_exist() {
    let mut tests: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in sources("tests/suite") {
        let path = if path.ends_with("mod.rs") { path.parent().expect("a module") } else { &path };
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        tests.entry(module.to_owned()).or_default().push_str(&text);
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut missing, mut found) = (Vec::new(), 0);
    for page in ["ARCHITECTURE", "CONTAINMENT", "DESIGN", "DEVIATIONS", "TARGETS"] {
        let page = format!("docs/{page}.md");
        let text = fs::read_to_string(root().join(&page)).expect("the page");
        for path in text.split(|c: char| !is_word(c)) {
            let Some((modules, name)) = path.rsplit_once("::") else { continue };
            let mut modules = modules.split("::");
            let first = modules.next().expect("a module");
            let is_test = !name.contains(|c: char| c.is_ascii_uppercase());
            if !is_test || !tests.contains_key(first) {
                continue;
            }
            let last = modules.last().unwrap_or(first);
            let start = format!("fn {name}");
            let exists = tests.get(last).is_some_and(|text| text.contains(&start));
            found += 1;
            if !exists && !tests.contains_key(name) {
                missing.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(found > 50, "{found}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Comments and documentation in the code, too.
#[test]
fn comments_have_at_most_100_columns() {
    for (path, text) in ["src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let lines = text.lines().zip(1..);
        for (line, number) in lines.filter(|(line, _)| line.trim_start().starts_with("//")) {
            let length = line.chars().count();
            assert!(length <= 100, "{}:{number}: {length}", path.display());
        }
    }
}

/// Pages have lines of at most 100 columns, outside of tables, blocks and generated pages.
#[test]
fn prose_has_at_most_100_columns() {
    // written by tests/kernels/versions
    let generated = root().join("docs/VERSIONS.md");
    let pages = fs::read_dir(root().join("docs")).expect("the pages");
    let pages = pages.map(|page| page.expect("an entry").path());
    let others = ["README.md", "CONTRIBUTING.md", "fuzz/README.md", "tests/kernels/README.md"];
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let pages = pages.chain(others.map(|page| root().join(page))).filter(is_page);
    for path in pages.filter(|path| *path != generated) {
        let text = fs::read_to_string(&path).expect("a page");
        let mut in_block = false;
        for (line, number) in text.lines().zip(1..) {
            in_block ^= line.trim_start().starts_with("```");
            let is_prose = !in_block && !line.trim_start().starts_with('|');
            let length = line.chars().count();
            assert!(!is_prose || length <= 100, "{}:{number}: {length}", path.display());
        }
    }
}

/// Each call of a process or a thread has the name of the man pages, as its name or an alias, and
/// refers to a rule, to a page, or to a method that does.
#[test]
fn calls_have_names_and_references_of_the_man_pages() {
    let calls = fs::read_to_string(root().join("src/syscall/declared.rs")).expect("the calls");
    let is_call = |name: &str| calls.contains(&format!("SYS_{name} "));
    let mut missing = Vec::new();
    for (path, minimum) in [("src/table/process.rs", 30), ("src/table/thread.rs", 8)] {
        let text = fs::read_to_string(root().join(path)).expect("a source");
        let mut found = 0;
        let mut above: Vec<&str> = Vec::new();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with("///") || line.starts_with("#[") {
                above.push(line);
                continue;
            }
            let docs = core::mem::take(&mut above).join(" ");
            let Some(rest) = line.strip_prefix("pub fn ") else { continue };
            let signature = lines[at..].iter().take_while(|line| !line.ends_with("}")).copied();
            let signature = signature.collect::<Vec<_>>().join(" ");
            let signature = signature.split('{').next().expect("a signature");
            if !signature.contains("Errno>") {
                continue;
            }
            let name = rest.split(['(', '<']).next().expect("a name");
            found += 1;
            if !is_call(name) && !docs.contains("doc(alias") {
                missing.push(format!("{path}: {name} has no alias of the man pages"));
            }
            if !["(2)", "(3)", "RULES ", "[`Process::"].iter().any(|word| docs.contains(word)) {
                missing.push(format!("{path}: {name} refers to no page and no rule"));
            }
        }
        assert!(found >= minimum, "{path}: {found}");
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// No source and no page contains a word that docs/GLOSSARY.md has retired, alone or as a part of a
/// name. Only the glossary and the change log name them.
#[test]
fn retired_words_are_gone() {
    let page = fs::read_to_string(root().join("docs/GLOSSARY.md")).expect("the page");
    let marker = "Words that may not come back:";
    let list = page.lines().skip_while(|line| !line.starts_with(marker));
    let list = list.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let retired: BTreeSet<&str> = quoted(&list).collect();
    assert!(retired.len() > 20, "{retired:?}");
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    for directory in ["src", "tests", "examples", "benches", "fuzz"] {
        texts.extend(sources(directory));
    }
    let pages = fs::read_dir(root().join("docs")).expect("the pages");
    let pages = pages.map(|page| page.expect("an entry").path());
    let pages = pages.chain(["README.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    for path in pages {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        if name.ends_with(".md") && !["GLOSSARY.md", "CHANGELOG.md"].contains(&name) {
            texts.insert(path.clone(), fs::read_to_string(&path).expect("a page"));
        }
    }
    let mut found = Vec::new();
    for (path, text) in &texts {
        for (line, number) in text.lines().zip(1..) {
            let words = line.split(|c: char| !c.is_ascii_alphabetic());
            let words = words.flat_map(humps).map(|word| word.to_lowercase());
            for word in words.filter(|word| retired.contains(&**word)) {
                found.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The words of a name in camel case.
fn humps(name: &str) -> impl Iterator<Item = &str> {
    let starts = name.char_indices().filter(|(_, c)| c.is_ascii_uppercase()).map(|(at, _)| at);
    let mut cuts: Vec<usize> = [0].into_iter().chain(starts).chain([name.len()]).collect();
    cuts.dedup();
    if name.chars().all(|c| c.is_ascii_uppercase()) {
        cuts = vec![0, name.len()];
    }
    (1..cuts.len()).map(move |nth| &name[cuts[nth - 1]..cuts[nth]])
}

/// A file of more than 800 lines, and a function of more than 75, has a reason for its length.
#[test]
fn long_files_and_functions_have_a_reason() {
    let mut found = Vec::new();
    for directory in ["src", "tests", "examples", "benches"] {
        for (path, text) in sources(directory) {
            let lines: Vec<&str> = text.lines().collect();
            let has_reason = |at: usize| {
                let above = lines[..at].iter().rev();
                let is_above =
                    |line: &&&str| ["//", "#["].iter().any(|start| line.trim().starts_with(start));
                above.take_while(is_above).any(|line| line.contains("Long because"))
            };
            if lines.len() > 800 && !lines.iter().any(|line| line.starts_with("//! Long because")) {
                found.push(format!("{}: {} lines", path.display(), lines.len()));
            }
            for (start, line) in lines.iter().enumerate() {
                let code = line.trim_start();
                let words: Vec<&str> = code.split(' ').take(5).collect();
                let is_modifier = |word: &&&str| {
                    ["const", "unsafe", "async", "extern", "\"C\""].contains(*word)
                        || word.starts_with("pub")
                };
                if words.iter().find(|word| !is_modifier(word)) != Some(&"fn") {
                    continue;
                }
                let end = format!("{}}}", " ".repeat(line.len() - code.len()));
                let is_short = |line: &&&str| line.ends_with(';') || line.ends_with("{}");
                let mut head = lines[start..].iter().take_while(|line| !is_short(line));
                if !head.any(|line| line.ends_with('{')) {
                    // a method of a trait without a body, or an empty function
                    continue;
                }
                let length = lines[start..].iter().position(|line| *line == end);
                if length.is_some_and(|length| length >= 75) && !has_reason(start) {
                    found.push(format!("{}:{}: {code}", path.display(), start + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// An ignored test has a reason in the line that `cargo test --features cli` prints.
#[test]
fn ignored_tests_have_a_reason() {
    // in two pieces, so that this line does not match
    let bare = concat!("#[ign", "ore]");
    for directory in ["src", "tests"] {
        for (path, text) in sources(directory) {
            assert!(!text.contains(bare), "{}", path.display());
        }
    }
}

/// No source and no page contains a path of the machine on which it was written.
#[test]
fn no_path_of_a_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    for directory in ["src", "tests", "examples", "benches", "fuzz"] {
        texts.extend(sources(directory));
    }
    for page in fs::read_dir(root().join("docs")).expect("the pages") {
        let path = page.expect("an entry").path();
        texts.insert(path.clone(), fs::read_to_string(&path).expect("a page"));
    }
    for page in ["README.md", "CONTRIBUTING.md", "Cargo.toml", ".ci/run"] {
        let path = root().join(page);
        texts.insert(path.clone(), fs::read_to_string(&path).expect("a page"));
    }
    for (path, text) in &texts {
        for (line, number) in text.lines().zip(1..) {
            let named = places.iter().find(|place| line.contains(**place));
            assert_eq!(named, None, "{}:{number}: {line}", path.display());
        }
    }
}
