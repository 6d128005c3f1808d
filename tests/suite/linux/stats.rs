//! What a tree uses, and where each figure comes from.

use proctable::drivers::linux::{Figure, Source};

use super::*;

/// Touches that many MiB, says so, and sleeps.
fn eater(tree: &ProcessTree, mib: usize) {
    // a string in the shell's own memory
    let script = format!("x=$(head -c {}M /dev/zero | tr '\\0' x); echo; exec >&-; read y", mib);
    let command = sh(&script).stdin(Stdio::Piped).stdout(Stdio::Piped);
    let child = tree.spawn(command).unwrap();
    child.take_stdout().unwrap().read_exact(&mut [0]).unwrap();
    std::mem::forget(child.take_stdin());
}

#[test]
fn figures_tell_their_source() {
    for tree in trees() {
        let nothing = tree.stats().unwrap();
        assert_eq!((nothing.processes, nothing.threads), (0, 0));
        eater(&tree, 30);
        let stats = tree.stats().unwrap();
        assert_eq!((stats.processes, stats.threads), (1, 1));
        assert!(stats.memory.value >= 30 << 20, "{stats:?}");
        assert!(stats.memory_peak.unwrap().value >= 30 << 20, "{stats:?}");
        match tree.mechanism() {
            Mechanism::Cgroup(directory) => {
                assert_eq!(stats.cpu.source, Source::CgroupV2);
                let account = directory.join("memory.current").exists();
                let v2 = stats.memory.source == Source::CgroupV2;
                assert_eq!(v2, account, "{stats:?}");
            }
            Mechanism::Scan | Mechanism::Children => {
                assert_eq!(stats.cpu.source, Source::SumOfMembers);
                assert_eq!(stats.memory.source, Source::SumOfMembers);
                assert_eq!(stats.memory_peak.unwrap().source, Source::LargestMember);
            }
        }
    }
}

/// Whether the peak of a tree's memory is in an account that outlives its members, or a visible
/// line that says why it is not.
pub fn keeps_peak(tree: &ProcessTree) -> bool {
    let Mechanism::Cgroup(directory) = tree.mechanism() else { return true };
    let has = |file: &str| directory.join(file).exists();
    let keeps = !has("memory.current") || has("memory.peak");
    if !keeps {
        println!("SKIPPED: the peak: a cgroup has no memory.peak before Linux 5.19");
    }
    keeps
}

/// A tree whose memory is limited by a cgroup has the account of the cgroup: also of processes that
/// have ended.
#[test]
fn a_limited_tree_has_the_kernels_account_of_its_memory() {
    let limits = Limits { memory: Some(1 << 30), ..Limits::default() };
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = match options.limits(limits).create() {
            Ok(tree) => tree,
            Err(error) => return println!("SKIPPED: {error}"),
        };
        eater(&tree, 30);
        let stats = tree.stats().unwrap();
        assert!(matches!(stats.memory.source, Source::CgroupV1 | Source::CgroupV2));
        assert!(stats.memory.value >= 30 << 20, "{stats:?}");
        tree.kill().unwrap();
        if keeps_peak(&tree) {
            let Figure { value, source } = tree.stats().unwrap().memory_peak.unwrap();
            assert!(value >= 30 << 20, "{value} {source:?}");
        }
        assert_eq!(tree.stats().unwrap().processes, 0);
    }
}

/// The CPU time of a direct child that has ended, and of what it had waited for, stays.
#[test]
fn the_time_of_the_ended_is_counted() {
    const BUSY: &str = "sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done'; true";
    for tree in trees() {
        tree.spawn(sh(BUSY)).unwrap().wait().unwrap();
        let ended = tree.stats().unwrap();
        assert!(ended.cpu.value > Duration::from_millis(5), "{ended:?}");
        assert_eq!(ended.cpu.value, tree.cpu_time().unwrap());
        // of one that lives, with what it has waited for
        let child = spawn_ready(&tree, &format!("{BUSY}; {BUSY}; echo; exec >&-; sleep 1000"));
        let living = tree.stats().unwrap();
        assert!(living.cpu.value > ended.cpu.value + Duration::from_millis(5), "{living:?}");
        child.signal(Signal::KILL).unwrap();
    }
}

/// WAIT-46: a wait returns what the child and the children that it has waited for have used, as
/// wait4(2) does, and adds it to the owner's.
#[test]
fn a_wait_returns_the_usage_of_a_real_child() {
    for tree in trees() {
        let busy = sh("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done");
        let child = tree.spawn(busy).unwrap();
        let owner = tree.table().process(proctable::abi::Pid(2)).unwrap();
        let waited = owner.wait_timeout(child.process(), WaitOptions::EXITED, SOON).unwrap();
        let usage = waited.expect("it ends").usage;
        assert!(!usage.cpu_time().is_zero() && usage.maxrss > 0 && usage.minflt > 0, "{usage:?}");
        assert_eq!(owner.children_usage(), Some(usage));
    }
}
