//! Nothing survives: whatever a tree does, and however its owner ends.

use super::program::{directories_of, proctable};
use super::*;

/// How often each way of ending is tried on a small tree.
fn rounds() -> u64 {
    let asked = std::env::var("PROCTABLE_ROUNDS").ok();
    asked.and_then(|rounds| rounds.parse().ok()).unwrap_or(13)
}

/// As [`FAMILY`], with one that `nohup` protects, and without waiting for anything.
const HASTY: &str = "
    sleep 1000 &
    setsid sleep 1001 &
    (setsid sh -c 'sleep 1002 & exec sleep 1003' &)
    nohup sleep 1004 >/dev/null 2>&1 &
    sh -c 'trap \"\" TERM HUP INT; sleep 1005 & while :; do wait; done' &
    sh -c 'kill -STOP $$; sleep 1006' &
    wait";

const CROWD: &str =
    "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i + 1)); done; echo; exec >&-; wait";

/// bash tries again when it cannot fork, where other shells end.
const BOMB: &str = "exec bash -c 'b() { while :; do b & done; }; b' 2>/dev/null";

/// How an owner ends its tree.
#[derive(Clone, Copy, Debug)]
enum Way {
    Kill,
    Drop,
    Panic,
}

const WAYS: [Way; 3] = [Way::Kill, Way::Drop, Way::Panic];

impl Way {
    fn end(self, tree: ProcessTree) {
        match self {
            Way::Kill => assert_eq!(tree.kill().unwrap().survivors, []),
            Way::Drop => drop(tree),
            Way::Panic => {
                let owner = std::thread::spawn(move || {
                    let _tree = tree;
                    std::panic::resume_unwind(Box::new("the owner panics"));
                });
                owner.join().unwrap_err();
            }
        }
    }
}

/// Times that something took.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn say(mut self, what: &str) {
        self.0.sort();
        let (first, last) = (self.0[0], self.0[self.0.len() - 1]);
        let middle = self.0[self.0.len() / 2];
        let rounds = self.0.len();
        println!(
            "{what}: {rounds} times, 0 survivors, 0 directories; min {first:.1?} median {middle:.1?} \
             max {last:.1?}"
        );
    }
}

fn mechanisms() -> Vec<Options> {
    match ProcessTree::new().unwrap().without_cgroup_because() {
        Some(why) => {
            println!("SKIPPED: no cgroup: {why}");
            vec![Options::new()]
        }
        None => vec![Options::new(), Options::new().without_cgroup()],
    }
}

fn name(tree: &ProcessTree) -> &'static str {
    match tree.mechanism() {
        Mechanism::Cgroup(_) => "cgroup",
        Mechanism::Scan => "scan",
        Mechanism::Children => "children",
    }
}

/// A mark of the test's own, by which it finds all processes that are left, whatever the library
/// finds.
fn token(number: u64) -> String {
    format!("PROCTABLE_TEST=survivors-{}-{number}-", std::process::id())
}

fn marked_sh(script: &str, token: &str) -> Command {
    let (name, value) = token.split_once('=').unwrap();
    sh(script).env(name, value).stdout(Stdio::Null).stderr(Stdio::Null)
}

/// Ends a tree, and returns how long that took. No process with the mark is left, and no directory.
fn end(tree: ProcessTree, way: Way, token: &str) -> Duration {
    let (_, directory) = traces(&tree);
    let begin = Instant::now();
    way.end(tree);
    let time = begin.elapsed();
    let left = marked(token);
    assert!(left.is_empty(), "{way:?}: {left:?} survive");
    assert!(directory.is_none_or(|directory| !directory.exists()), "{way:?}");
    time
}

#[test]
fn no_process_survives_an_end_at_any_moment() {
    let mut random = Random(0x5eed);
    for options in mechanisms() {
        for way in WAYS {
            let mut times = Times::default();
            let mut mechanism = "";
            for round in 0..rounds() {
                let token = token(random.below(u64::MAX));
                let tree = options.create().unwrap();
                mechanism = name(&tree);
                tree.spawn(marked_sh(HASTY, &token)).unwrap();
                // half of them in the middle of its beginning
                let moment =
                    if round % 2 == 0 { random.below(8_000) } else { random.below(60_000) };
                std::thread::sleep(Duration::from_micros(moment));
                times.0.push(end(tree, way, &token));
            }
            times.say(&format!("family, {way:?}, {mechanism}"));
        }
    }
}

#[test]
fn none_of_500_processes_survives() {
    for options in mechanisms() {
        let mut times = Times::default();
        let mut mechanism = "";
        for (nth, way) in WAYS.into_iter().enumerate() {
            let token = token(1 << 32 | nth as u64);
            let tree = options.create().unwrap();
            mechanism = name(&tree);
            let child = tree.spawn(marked_sh(CROWD, &token).stdout(Stdio::Piped)).unwrap();
            child.take_stdout().unwrap().read_exact(&mut [0]).unwrap();
            // the last ones may be in the middle of exec, where a process has no environment
            until("the crowd is there", || marked(&token).len() >= 501);
            times.0.push(end(tree, way, &token));
        }
        times.say(&format!("500 processes, {mechanism}"));
    }
}

#[test]
fn no_process_of_a_fork_bomb_survives() {
    let limits = Limits { processes: Some(200), ..Limits::default() };
    for options in mechanisms() {
        let mut times = Times::default();
        let mut mechanism = "";
        for (nth, way) in WAYS.into_iter().enumerate() {
            let token = token(1 << 33 | nth as u64);
            let tree = match options.limits(limits).create() {
                Ok(tree) => tree,
                Err(error) => {
                    println!("SKIPPED: a fork bomb without a limit: {error}");
                    return;
                }
            };
            mechanism = name(&tree);
            tree.spawn(marked_sh(BOMB, &token)).unwrap();
            until("the bomb goes off", || marked(&token).len() > 100);
            times.0.push(end(tree, way, &token));
        }
        times.say(&format!("fork bomb of 200, {mechanism}"));
    }
}

/// The owner dies by SIGKILL, while it starts, or later: the guardian ends the tree.
fn guarded(script: &str, arguments: &[&str], moment: Option<Duration>, token: &str) -> Duration {
    let (name, value) = token.split_once('=').unwrap();
    let mut owner =
        proctable(&[&["exec", "--guardian"], arguments, &["--", "sh", "-c", script]].concat())
            .env(name, value)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
    match moment {
        Some(moment) => std::thread::sleep(moment),
        None => until("the tree is there", || marked(token).len() > 100),
    }
    let begin = Instant::now();
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("they are gone", || marked(token).is_empty() && directories_of(owner.id()).is_empty());
    let time = begin.elapsed();
    // no process comes back, either
    assert!(marked(token).is_empty());
    time
}

#[test]
fn no_process_survives_the_owner_with_a_guardian() {
    if let Err(why) = proctable::drivers::linux::preflight().guardian {
        println!("SKIPPED: no guardian: {why}");
        return;
    }
    let mut random = Random(0xdead);
    let mut times = Times::default();
    for round in 0..2 * rounds() {
        let moment = if round % 2 == 0 { random.below(15_000) } else { random.below(80_000) };
        let token = token(random.below(u64::MAX));
        times.0.push(guarded(HASTY, &[], Some(Duration::from_micros(moment)), &token));
    }
    times.say("family, SIGKILL of the owner, guardian");
    let mut times = Times::default();
    times.0.push(guarded(CROWD, &[], None, &token(1 << 34)));
    times.say("500 processes, SIGKILL of the owner, guardian");
    let limits = Limits { processes: Some(200), ..Limits::default() };
    if Options::new().limits(limits).create().is_ok() {
        let mut times = Times::default();
        times.0.push(guarded(BOMB, &["--pids", "200"], None, &token(1 << 35)));
        times.say("fork bomb of 200, SIGKILL of the owner, guardian");
    }
}

/// A tree in a tree has a mark of its own, and the outer one's as well.
#[test]
fn an_inner_tree_ends_with_the_outer_one() {
    let token = token(1 << 36);
    let tree = Options::new().without_cgroup().create().unwrap();
    let program = env!("CARGO_BIN_EXE_proctable");
    let script =
        format!("{program} exec --no-cgroup -- sh -c '(setsid sleep 1000 &) ; sleep 1001'");
    tree.spawn(marked_sh(&script, &token)).unwrap();
    until("all are there", || marked(&token).len() >= 5);
    end(tree, Way::Kill, &token);
}

/// Only the scan: an ordinary user can make no cgroup.
#[test]
fn no_process_survives_an_ordinary_owner() {
    as_ordinary_user("linux::survivors::as_the_present_user");
}

#[test]
#[ignore = "a scenario of no_process_survives_an_ordinary_owner"]
fn as_the_present_user() {
    no_process_survives_an_end_at_any_moment();
    none_of_500_processes_survives();
}
