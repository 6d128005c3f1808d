//! The items and tests that docs/PEERS.md names exist.

use std::collections::BTreeSet;
use std::fs;

use crate::sources::{is_test, quoted, root, sources};

/// The directories whose items the page names; other paths are tests.
const LAYERS: [&str; 5] = ["abi", "syscall", "kernel", "driver", "table"];

fn page() -> String {
    fs::read_to_string(root().join("docs/PEERS.md")).expect("the page")
}

/// The cells of each row of each table, without the heads.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let cells = |line: &str| line.starts_with("| ") && !line.starts_with("| Theirs");
    let rows = page.lines().filter(|line| cells(line) && !line.starts_with("| | What"));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The paths of this crate in a text. The page quotes names of other crates without a path, except
/// for `DriverProcess::`.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    quoted(text).filter(|name| name.contains("::") && !name.starts_with("DriverProcess::"))
}

fn is_item(path: &str) -> bool {
    path.split("::").next().is_some_and(|directory| LAYERS.contains(&directory))
}

#[test]
fn every_test_that_is_named_exists() {
    let page = page();
    let files = sources("tests");
    for name in paths(&page).filter(|path| !is_item(path)) {
        assert!(is_test(&files, name), "there is no test {name}");
    }
    for row in rows(&page) {
        let excused = row.last().is_some_and(|cell| *cell == "none");
        let has_test = row.iter().any(|cell| paths(cell).any(|path| !is_item(path)));
        assert!(has_test != excused, "{row:?}: a test, or the reason why none");
    }
}

/// Whether a source declares that name: as an item, a field, a variant, or an entry of a macro.
fn declares(text: &str, name: &str) -> bool {
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "mod"];
    let item = |keyword: &&str| {
        let start = format!("pub {keyword} {name}");
        let method = format!("    {keyword} {name}(");
        let constant = format!("pub const {keyword} {name}(");
        text.contains(&*start) || text.contains(&*method) || text.contains(&*constant)
    };
    let entry = |end: &&str| text.contains(&format!("\n    {name}{end}"));
    keywords.iter().any(item)
        || text.contains(&format!("    pub {name}: "))
        || [",", "(", " {", " = "].iter().any(entry)
}

#[test]
fn every_item_that_is_named_exists() {
    let page = page();
    for directory in LAYERS {
        let text: String = sources(&format!("src/{directory}")).into_values().collect();
        for path in paths(&page).filter(|path| path.split("::").next() == Some(directory)) {
            for part in path.split("::").skip(1) {
                assert!(declares(&text, part), "{path}: src/{directory} declares no {part}");
            }
        }
    }
}

/// Each test in the files of the page's tests is on the page.
#[test]
fn every_test_of_the_scenarios_is_named() {
    let page = page();
    let named: BTreeSet<&str> = paths(&page).collect();
    for (path, text) in sources("tests/suite/table") {
        let module = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !matches!(module, "peers" | "deviations") {
            continue;
        }
        for (attribute, line) in text.lines().zip(text.lines().skip(1)) {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.strip_suffix("() {"));
            if let Some(name) = name.filter(|_| attribute == "#[test]") {
                let test = format!("{module}::{name}");
                assert!(named.contains(&*test), "{test} is not on the page");
            }
        }
    }
}

#[test]
fn every_scenario_of_the_peers_has_a_row() {
    let page = page();
    let rows = rows(&page);
    let numbers = (1..=27).map(|n| format!("T{n}")).chain((1..=4).map(|n| format!("U{n}")));
    for number in numbers {
        let of_it = rows.iter().filter(|row| row[0] == number).count();
        assert_eq!(of_it, 1, "{number}");
    }
}
