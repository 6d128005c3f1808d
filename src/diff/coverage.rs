//! The coverage of the programs, which makes gaps visible.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::kernel::{Rule, RuleSet};
use crate::syscall::{self, Syscall};

/// The number of times that each call, each errno of each call and each rule was exercised in steps
/// without a difference.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// By the name of the call.
    pub calls: BTreeMap<String, u64>,
    /// By the name of the call and of the error.
    pub errors: BTreeMap<String, BTreeMap<String, u64>>,
    /// By the rule's id.
    pub rules: BTreeMap<String, u64>,
    /// The number of programs, by the name of the profile.
    pub profiles: BTreeMap<String, u64>,
}

impl Coverage {
    /// Counts a call.
    pub fn call(&mut self, call: &Syscall) {
        count(&mut self.calls, call.name());
    }

    /// Counts the result of a call.
    pub fn result(&mut self, call: &Syscall, result: &syscall::Result) {
        if let Err(errno) = result {
            let errors = self.errors.entry(call.name().to_owned()).or_default();
            count(errors, &errno.to_string());
        }
    }

    /// Counts the rules of a step.
    pub fn rules(&mut self, rules: &RuleSet) {
        for rule in rules.iter() {
            count(&mut self.rules, &rule.to_string());
        }
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Coverage) {
        add(&mut self.calls, &other.calls);
        add(&mut self.rules, &other.rules);
        add(&mut self.profiles, &other.profiles);
        for (call, errors) in &other.errors {
            add(self.errors.entry(call.clone()).or_default(), errors);
        }
    }

    /// The table that `diff` prints.
    pub fn table(&self) -> String {
        let mut text = String::from("calls, and the errors among them:\n");
        for (call, times) in &self.calls {
            // writing to a String cannot fail
            let _ = write!(text, "  {call:<16} {times:>9} ");
            for (errno, times) in self.errors.get(call).into_iter().flatten() {
                let _ = write!(text, " {errno} {times}");
            }
            text.push('\n');
        }
        text.push_str("rules:\n");
        let mut group = "";
        for rule in Rule::all() {
            let (name, number) = rule.group_and_number();
            let Some(times) = self.rules.get(&rule.to_string()) else { continue };
            if name != group {
                let _ = write!(text, "{}  {name:<5}", if group.is_empty() { "" } else { "\n" });
                group = name;
            }
            let _ = write!(text, " {number:02}:{times}");
        }
        text.push('\n');
        text.push_str(&self.holes());
        text
    }

    /// The rules that were never exercised, of the groups that the model has.
    fn holes(&self) -> String {
        const LATER: [&str; 5] = ["TTY", "PFD", "THR", "PTR", "OBS"];
        let mut text = String::from("rules that did not come up:");
        for rule in Rule::all() {
            let (group, _) = rule.group_and_number();
            if !LATER.contains(&group) && !self.rules.contains_key(&rule.to_string()) {
                let _ = write!(text, " {rule}");
            }
        }
        text.push('\n');
        text
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str) {
    match map.get_mut(key) {
        Some(times) => *times += 1,
        None => drop(map.insert(key.to_owned(), 1)),
    }
}

fn add(map: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>) {
    for (key, times) in other {
        *map.entry(key.clone()).or_default() += times;
    }
}
