//! The rules of the specification, by id.
//!
//! A transition notes each rule that it obeys, and each effect has the rule that requires it.
//! docs/SEMANTICS.md defines the ids; [`rule!`](crate::rule!) checks them at compile time.

use core::fmt;

/// The groups of rules in the order of docs/SEMANTICS.md, with the number of rules in each.
const GROUPS: [(&str, u16); 25] = [
    ("PID", 22),
    ("FORK", 34),
    ("EXEC", 20),
    ("EXIT", 17),
    ("ZOM", 15),
    ("RPT", 21),
    ("WAIT", 48),
    ("GRP", 24),
    ("ORP", 20),
    ("KILL", 35),
    ("SIG", 58),
    ("JOB", 19),
    ("CHLD", 12),
    ("TTY", 36),
    ("CRED", 9),
    ("LIM", 16),
    ("TIME", 12),
    ("PFD", 16),
    ("THR", 11),
    ("NS", 15),
    ("MISC", 5),
    ("PTR", 5),
    ("OBS", 5),
    ("TG", 174),
    ("RACE", 9),
];

/// One rule of docs/SEMANTICS.md, such as `ORP-07`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rule(u16);

impl Rule {
    /// How many rules there are.
    pub const COUNT: usize = {
        let mut count = 0;
        let mut group = 0;
        while group < GROUPS.len() {
            count += GROUPS[group].1 as usize;
            group += 1;
        }
        count
    };

    /// The rule with that id. Costs a scan of the groups; [`rule!`](crate::rule!) does the scan at
    /// compile time.
    ///
    /// ```
    /// # use proctable::kernel::Rule;
    /// assert_eq!(Rule::named("WAIT-30").map(|r| r.to_string()), Some("WAIT-30".into()));
    /// assert_eq!(Rule::named("WAIT-99"), None);
    /// ```
    pub const fn named(id: &str) -> Option<Rule> {
        let id = id.as_bytes();
        let mut base = 0;
        let mut group = 0;
        while group < GROUPS.len() {
            let (name, count) = GROUPS[group];
            if let Some(number) = number_after(id, name.as_bytes())
                && number >= 1
                && number <= count
            {
                return Some(Rule(base + number - 1));
            }
            base += count;
            group += 1;
        }
        None
    }

    /// The place of the rule among all rules, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All rules in the order of docs/SEMANTICS.md.
    pub fn all() -> impl Iterator<Item = Rule> {
        (0..Rule::COUNT as u16).map(Rule)
    }

    /// The name of its group, and its number in the group.
    pub fn group_and_number(self) -> (&'static str, u16) {
        let mut rest = self.0;
        for (name, count) in GROUPS {
            if rest < count {
                return (name, rest + 1);
            }
            rest -= count;
        }
        // only `named` and `all` create a Rule, and both stay below COUNT
        ("?", rest)
    }
}

/// The number in `id` if `id` is `name-NN` or `name-NNN`, else `None`.
const fn number_after(id: &[u8], name: &[u8]) -> Option<u16> {
    let digits = match id.len().checked_sub(name.len() + 1) {
        Some(digits @ 2..=3) if id[name.len()] == b'-' => digits,
        _ => return None,
    };
    let mut at = 0;
    while at < name.len() {
        if id[at] != name[at] {
            return None;
        }
        at += 1;
    }
    let mut number = 0;
    let mut digit = 0;
    while digit < digits {
        let byte = id[name.len() + 1 + digit];
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + (byte - b'0') as u16;
        digit += 1;
    }
    // an id has two digits, and a third one only from 100 on
    if digits == 3 && number < 100 { None } else { Some(number) }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, number) = self.group_and_number();
        write!(f, "{group}-{number:02}")
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule by its id, checked at compile time: `rule!("ORP-07")`.
#[macro_export]
macro_rules! rule {
    ($id:literal) => {{
        const RULE: $crate::kernel::Rule = match $crate::kernel::Rule::named($id) {
            Some(rule) => rule,
            None => panic!("no such rule"),
        };
        RULE
    }};
}

/// A set of rules, one bit each.
// bytes and not words: LLVM narrows a constant bit set in a word to its byte, and a processor
// cannot forward that store to the load of the whole word that follows
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RuleSet([u8; Rule::COUNT.div_ceil(8)]);

impl RuleSet {
    /// No rule.
    pub const EMPTY: RuleSet = RuleSet([0; Rule::COUNT.div_ceil(8)]);

    /// Adds `rule`.
    #[inline]
    pub fn insert(&mut self, rule: Rule) {
        self.0[rule.index() / 8] |= 1 << (rule.index() % 8);
    }

    /// Whether the set has `rule`.
    pub fn contains(&self, rule: Rule) -> bool {
        self.0[rule.index() / 8] & 1 << (rule.index() % 8) != 0
    }

    /// Removes all rules.
    pub fn clear(&mut self) {
        *self = RuleSet::EMPTY;
    }

    /// The rules of the set, in order. Costs a test of every rule.
    pub fn iter(&self) -> impl Iterator<Item = Rule> + '_ {
        Rule::all().filter(|rule| self.contains(*rule))
    }
}

impl Default for RuleSet {
    fn default() -> RuleSet {
        RuleSet::EMPTY
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
