//! docs/SEMANTICS.md, the ids in the code and the tests agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use proctable::diff::{Campaign, Subject, TrialConfig};
use proctable::host::{Mode, probe};
use proctable::kernel::Rule;

use crate::scene::reached;
use crate::sources::{is_test, quoted, root, sources};

/// The groups in which every rule has a row; of the other groups only the modelled rules have one.
const WHOLE: [&str; 19] = [
    "PID", "FORK", "EXEC", "EXIT", "ZOM", "RPT", "WAIT", "GRP", "ORP", "KILL", "SIG", "JOB",
    "CHLD", "CRED", "LIM", "TIME", "MISC", "THR", "TG",
];
/// Modelled rules that no test shows; SEMANTICS.md has the reason.
const NOT_SHOWN: [&str; 1] = ["NS-04"];

/// Rules about actions from outside of the model, which tests of the table show.
const SHOWN_OUTSIDE: [&str; 5] = ["KILL-22", "KILL-29", "LIM-15", "PID-13", "PID-14"];

/// The seeds of `random_programs_exercise_the_rules_that_diff_shows`, from 1.
const SEEDS: u64 = 4;

/// A row of a table.
struct Row {
    modelled: bool,
    /// The names in backquotes in the last column.
    shown_by: Vec<String>,
}

/// All sources below a directory, in one text.
fn all_sources(directory: &str) -> String {
    sources(directory).into_values().collect()
}

/// The rows by id. Each id has one.
fn rows() -> BTreeMap<Rule, Row> {
    let text = fs::read_to_string(root().join("docs/SEMANTICS.md")).expect("the page");
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", id, what, source, modelled, shown_by, ""] = &cells[..] else { continue };
        let Some(rule) = Rule::named(id) else { continue };
        let wrong: Vec<&str> = source.split(", ").filter(|source| !is_source(source)).collect();
        assert!(wrong.is_empty(), "{id}: not a name of the kernel or of a page: {wrong:?}");
        let no = modelled.strip_prefix("no (").is_some_and(|why| why.len() > 4);
        assert!(modelled == "yes" || no, "{id}: yes, or no (why)");
        assert!(!what.is_empty(), "{id} has no statement");
        let shown_by = quoted(shown_by).map(str::to_owned).collect();
        let row = Row { modelled: modelled == "yes", shown_by };
        assert!(rows.insert(rule, row).is_none(), "{id} has two rows");
    }
    rows
}

/// Whether a text names a function, a field or a flag of the kernel (in backquotes), a page of the
/// manual with its section, or a section of POSIX.
fn is_source(text: &str) -> bool {
    let is_name = |name: &str| {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty() && name.chars().all(is_letter)
    };
    let bare = text.trim_matches('`');
    let name = match bare.strip_suffix(')').and_then(|text| text.split_once('(')) {
        // the kernel's macro that defines a system call
        Some((macro_name, call)) if bare != text => {
            return macro_name.starts_with("SYSCALL_DEFINE") && is_name(call);
        }
        Some((page, section)) => {
            return is_name(page) && matches!(section.as_bytes(), [b'1'..=b'8', ..]);
        }
        None => bare,
    };
    (bare != text && is_name(name))
        || text.strip_prefix("POSIX ").is_some_and(|text| text.len() > 4)
}

/// All ids of the groups in a text: capitals, a dash, two or three digits.
fn ids(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let groups: BTreeSet<&str> = Rule::all().map(|rule| rule.group_and_number().0).collect();
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(group, number)| {
            groups.contains(group)
                && (2..=3).contains(&number.len())
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    words.filter(is_id).collect()
}

#[test]
fn a_source_is_a_name_of_the_kernel_or_a_page() {
    let right =
        ["`do_wait`", "`SYSCALL_DEFINE4(wait4)`", "wait(2)", "prctl(2const)", "POSIX XSH kill"];
    let wrong =
        ["", "``", "do_wait", "`do wait`", "wait()", "wait(n)", "`wait(2)`", "POSIX", "man wait"];
    assert!(right.iter().all(|source| is_source(source)));
    assert!(!wrong.iter().any(|source| is_source(source)));
}

#[test]
fn each_rule_has_a_row() {
    let rows = rows();
    for rule in Rule::all() {
        let whole = WHOLE.contains(&rule.group_and_number().0);
        assert!(!whole || rows.contains_key(&rule), "{rule} has no row");
    }
}

#[test]
fn each_id_in_the_code_exists() {
    for directory in ["src", "tests", "benches"] {
        for (path, text) in sources(directory) {
            for id in ids(&text) {
                // the example of an id that does not exist
                let known = Rule::named(id).is_some() || id == concat!("WAIT-", "99");
                assert!(known, "{}: there is no {id}", path.display());
            }
        }
    }
}

/// The policies of the table have ids of their own, and no id of a rule of Linux.
#[test]
fn the_policies_of_the_table_have_a_row() {
    let is_policy = |word: &&str| word.starts_with(concat!("TABLE", "-"));
    let of = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words.filter(is_policy).map(str::to_owned).collect()
    };
    let page = fs::read_to_string(root().join("docs/DEVIATIONS.md")).expect("the page");
    let rows: BTreeSet<String> = of(&page);
    let named: BTreeSet<String> =
        ["src", "tests"].iter().flat_map(|directory| of(&all_sources(directory))).collect();
    assert!(!named.is_empty() && named.is_subset(&rows), "{named:?} of {rows:?}");
}

#[test]
fn the_code_cites_each_modelled_rule() {
    let model: String = all_sources("src/kernel");
    let (mentioned, rows) = (ids(&model), rows());
    for (rule, row) in &rows {
        let id = rule.to_string();
        assert!(!row.modelled || mentioned.contains(&*id), "{id} is not in src/kernel");
        let noted = model.contains(&format!("rule!(\"{id}\")"));
        assert!(row.modelled || !noted, "{id} is followed in src/kernel, and not modelled?");
    }
    for rule in Rule::all() {
        let noted = model.contains(&format!("rule!(\"{rule}\")"));
        assert!(!noted || rows.contains_key(&rule), "{rule} is followed, and has no row");
    }
}

#[test]
fn each_modelled_rule_names_a_test() {
    let mut files = sources("tests");
    files.extend(sources("src"));
    for (rule, row) in rows() {
        let excepted = NOT_SHOWN.contains(&&*rule.to_string());
        assert_eq!(row.modelled && row.shown_by.is_empty(), excepted, "{rule}");
        for name in &row.shown_by {
            if !matches!(&**name, "diff" | "diff (root)" | "diff (rare)") {
                assert!(is_test(&files, name), "{rule}: there is no test {name}");
            }
        }
    }
}

/// Whether a test has that name, without its modules.
fn ends_with_name(test: &str, name: &str) -> bool {
    test.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with("::"))
}

/// A scenario that a row names has to follow the rule: it executes a line that cites the rule.
#[test]
fn the_scenario_of_a_rule_follows_it() {
    let path = std::env::temp_dir().join(format!("proctable-reached-{}", std::process::id()));
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--quiet", "rules::"])
        .env(reached::FILE, &path)
        .stdout(Stdio::null())
        .status();
    let text = fs::read_to_string(&path);
    fs::remove_file(&path).expect("the scenes have written it");
    assert!(status.expect("it ran").success(), "a scene fails");
    let text = text.expect("it is text");
    let mut followed: BTreeMap<&str, BTreeSet<Rule>> = BTreeMap::new();
    for line in text.lines() {
        let (test, rule) = line.split_once(' ').expect("a test and a rule");
        let rule = Rule::named(rule).expect("a rule");
        followed.entry(test).or_default().insert(rule);
    }
    let model: String = all_sources("src/kernel");
    let mut missing = Vec::new();
    for (rule, row) in rows() {
        if !model.contains(&format!("rule!(\"{rule}\")")) {
            continue;
        }
        let scenes: Vec<_> = (row.shown_by.iter())
            .filter_map(|name| followed.iter().find(|(test, _)| ends_with_name(test, name)))
            .collect();
        let by_diff = row.shown_by.iter().any(|name| name.starts_with("diff"));
        let follows = scenes.iter().any(|(_, rules)| rules.contains(&rule));
        let id = rule.to_string();
        let elsewhere = NOT_SHOWN.contains(&&*id) || SHOWN_OUTSIDE.contains(&&*id);
        if !follows && (!scenes.is_empty() || !by_diff && !elsewhere) {
            missing.push(format!("{rule} by {:?}", row.shown_by));
        }
    }
    assert!(missing.is_empty(), "not followed by the scene that shows it: {missing:#?}");
}

/// Counts the steps on which kernel and model agree; `diff::` looks for differences. A change of
/// the generator changes all programs, and rare rules may need more of them: the test tries further
/// seeds before it fails.
#[test]
fn random_programs_exercise_the_rules_that_diff_shows() {
    let mode = match probe() {
        Ok(mode) => mode,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    let rows = rows();
    let marks: &[&str] = if mode == Mode::Root { &["diff", "diff (root)"] } else { &["diff"] };
    let is_marked = |row: &Row| row.shown_by.iter().any(|name| marks.contains(&&**name));
    let mut missing: BTreeSet<Rule> =
        rows.iter().filter(|(_, row)| is_marked(row)).map(|(rule, _)| *rule).collect();
    let mut not_modelled = BTreeSet::new();
    for seed in 1..=SEEDS {
        let campaign = Campaign {
            exe: env!("CARGO_BIN_EXE_proctable").into(),
            mode,
            cpus: cpus(),
            config: TrialConfig { seed, steps: 80, shrink: false, concurrent: None, profile: None },
            programs: 600,
            subject: Subject::Processes,
            shard: (0, 1),
            fault: None,
            max_differences: usize::MAX,
        };
        let summary = campaign.run(|_| {}).expect("the campaign runs");
        for id in summary.coverage.rules.keys() {
            let rule = Rule::named(id).expect("a rule");
            missing.remove(&rule);
            if rows.get(&rule).is_none_or(|row| !row.modelled) {
                not_modelled.insert(rule);
            }
        }
        if !missing.is_empty() && !summary.left_out.is_empty() {
            println!("SKIPPED: {missing:?}, as this kernel lacks {:?}", summary.left_out);
            missing.clear();
        }
        if missing.is_empty() {
            break;
        }
    }
    assert!(
        missing.is_empty(),
        "docs/SEMANTICS.md says `diff` of these rules, and {SEEDS} x 600 programs exercise none of \
         them: {missing:?}. Let the generator reach them, or give each a scenario and \
         `diff (rare)`"
    );
    assert!(not_modelled.is_empty(), "exercised, and not \"yes\" in SEMANTICS: {not_modelled:?}");
}

/// At most two of the CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.expect("a list of CPUs").trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().expect("a CPU")..=last.parse().expect("a CPU")
    });
    ranges.take(2).collect()
}
