//! The pages and sources of this project, as the tests read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources below a directory, by path.
pub fn sources(directory: &str) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                files.insert(path, text);
            }
        }
    }
    files
}

/// Whether the file of `module` contains the test `module::function`.
pub fn is_test(files: &BTreeMap<PathBuf, String>, name: &str) -> bool {
    let Some((module, function)) = name.split_once("::") else { return false };
    let start = format!("fn {function}() {{");
    files.iter().any(|(path, text)| {
        path.file_stem().is_some_and(|stem| stem == module)
            && text
                .lines()
                .zip(text.lines().skip(1))
                .any(|(attribute, line)| attribute.trim() == "#[test]" && line.trim() == start)
    })
}

/// The texts in backquotes in a cell or a line.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
