//! What an ordinary user has: everything that needs no cgroup, and true reasons for the rest.

use proctable::drivers::linux::{Enforcer, preflight};

use super::*;

#[test]
fn an_ordinary_user_has_trees() {
    as_ordinary_user("linux::user::with_trees");
}

#[test]
#[ignore = "a scenario of an_ordinary_user_has_trees"]
fn with_trees() {
    if !is_alone() {
        return;
    }
    let tree = ProcessTree::new().unwrap();
    let child = tree.spawn(sh("exit 3")).unwrap();
    assert_eq!(child.wait(), Ok(WaitStatus::exited(3)));
    let error = tree.spawn(Command::new("true").uid(1)).unwrap_err();
    assert_eq!((error.step, error.error.raw_os_error()), (Step::Uid, Some(libc::EPERM)));
    spawn_family(&tree);
    let (members, directory) = traces(&tree);
    assert!(members.len() >= 9, "{members:?}");
    assert_eq!(tree.stats().unwrap().processes, members.len());
    drop(tree);
    assert!(members.iter().all(|pid| !is_there(*pid)));
    assert!(directory.is_none_or(|directory| !directory.exists()));
}

/// Cgroups may be delegated to a user; here they are not, or all of this holds with them.
#[test]
fn an_ordinary_user_sees_what_is_missing() {
    as_ordinary_user("linux::user::without_privileges");
}

#[test]
#[ignore = "a scenario of an_ordinary_user_sees_what_is_missing"]
fn without_privileges() {
    if !is_alone() {
        return;
    }
    let told = preflight();
    print!("{told}");
    if told.cgroup.is_ok() {
        return println!("SKIPPED: this user has cgroups");
    }
    let why = told.cgroup.unwrap_err();
    let refused = Options::new().guarded().create().unwrap_err().to_string();
    assert!(refused.starts_with("a guardian needs a cgroup"), "{refused}");
    assert!(refused.contains(&why), "{refused}: {why}");
    assert_eq!(told.limits[0].1, Ok(Enforcer::RlimitPerProcess));
    assert_eq!(told.limits[1].1, Ok(Enforcer::RlimitPerUser));
    told.limits[2].1.as_ref().unwrap_err();
    assert_eq!((told.pidfds, told.subreaper), (Ok(()), Ok(())));
}
