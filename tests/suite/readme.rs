//! The blocks of `console` in the README are the output of the program: the test runs each again.
//!
//! `.ci/readme` writes the blocks again. A line `...` stands for any lines.

use std::fs;
use std::process::Command;

use proctable::host::{Mode, probe};

use crate::sources::root;

const FENCE: &str = "```";
const START: &str = "```console\n";
const ANY: &str = "...";
/// The environment variable that makes the test write the blocks instead of a comparison.
const WRITE: &str = "PROCTABLE_README";

/// Lines of `diff` that differ between runs: the kernel, the number of the program, rates.
const VARYING: [&str; 6] =
    ["kernel ", "left out: ", "program ", "programs ", "saved; ", " calls/s"];

/// A command of a block, and the output below it.
struct Shown {
    command: String,
    output: Vec<String>,
}

fn commands(block: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(command), _) => {
                all.push(Shown { command: command.to_owned(), output: Vec::new() });
            }
            (None, Some(shown)) => shown.output.push(line.to_owned()),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    all
}

/// The reason why a command cannot run here, if any.
fn is_possible(command: &str) -> Result<(), String> {
    if !command.contains(" diff ") {
        return Ok(());
    }
    if !cfg!(feature = "faults") {
        return Err("it needs the feature faults".into());
    }
    match probe() {
        Ok(Mode::Root) => Ok(()),
        Ok(Mode::User) => Err("other users run other programs than root".into()),
        Err(reason) => Err(reason.to_string()),
    }
}

/// The output of a command, with [`ANY`] for lines that vary.
fn run(command: &str) -> Vec<String> {
    let mut words = command.split_whitespace();
    let text = match (words.next(), command.strip_prefix("cat ")) {
        (_, Some(file)) => fs::read_to_string(root().join(file)).expect("the file of a block"),
        (Some("proctable"), _) => {
            let directory =
                std::env::temp_dir().join(format!("proctable-readme-{}", std::process::id()));
            let args: Vec<&str> = words.collect();
            let mut program = Command::new(env!("CARGO_BIN_EXE_proctable"));
            if args.contains(&"--fault") {
                program.arg(args[0]).arg("--save").arg(&directory).args(&args[1..]);
            } else {
                program.args(args);
            }
            let output = program.current_dir(root()).output().expect("the program runs");
            // the directory does not exist if the program saved no difference
            let _ = fs::remove_dir_all(&directory);
            String::from_utf8(output.stdout).expect("text")
        }
        (word, _) => panic!("{word:?} is no command of a block"),
    };
    let varies = |line: &str| {
        VARYING.iter().any(|start| line.starts_with(start)) || line.contains(" calls/s a core; ")
    };
    let compares = command.contains(" diff ");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let line = if compares && varies(line) { ANY } else { line };
        if line != ANY || lines.last().is_none_or(|last| last != ANY) {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The blocks of the page, each with its offset and its text.
fn blocks(page: &str) -> Vec<(usize, &str)> {
    let starts = page.match_indices(START).map(|(at, _)| at + START.len());
    let block = |at: usize| (at, &page[at..at + page[at..].find(FENCE).expect("the block ends")]);
    starts.map(block).collect()
}

#[test]
fn the_blocks_show_what_the_program_prints() {
    let path = root().join("README.md");
    let mut page = fs::read_to_string(&path).expect("the page");
    let write = std::env::var_os(WRITE).is_some();
    // from the last one, so that the offsets of the others stay valid
    for (at, block) in blocks(&page.clone()).into_iter().rev() {
        let mut text = String::new();
        for Shown { command, output } in commands(block) {
            if let Err(why) = is_possible(&command) {
                assert!(!write, "{command}: {why}");
                println!("SKIPPED: {command}: {why}");
                continue;
            }
            let printed = run(&command);
            text += &format!("$ {command}\n{}\n", printed.join("\n"));
            assert!(write || output == printed, "{command} prints:\n{}", printed.join("\n"));
        }
        if write {
            page.replace_range(at..at + block.len(), &text);
        }
    }
    if write {
        fs::write(&path, &page).expect("the page is written");
    }
    assert!(page.contains(START), "the page shows nothing");
}

#[test]
fn the_programs_of_the_page_are_short() {
    let page = fs::read_to_string(root().join("README.md")).expect("the page");
    let programs = page.split(FENCE).skip(1).step_by(2).filter(|block| block.starts_with("rust"));
    let lengths: Vec<usize> = programs
        .map(|block| {
            block.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with("# ")).count()
        })
        .collect();
    assert!(!lengths.is_empty() && lengths.iter().all(|length| *length <= 10), "{lengths:?}");
}
