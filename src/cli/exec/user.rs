//! The user of a command: names of passwd(5) and group(5), or numbers.

use std::fs;

/// A user with its groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// `USER` or `USER:GROUP`, as the files of this system have them.
pub fn user(text: &str) -> Result<User, String> {
    // without the files there are numbers
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    find(text, &read("/etc/passwd"), &read("/etc/group"))
}

/// With a group the user has this group only. Otherwise the user has the groups of a login: that of
/// passwd(5), and those of group(5) that name the user.
fn find(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number = user.parse::<u32>().ok().filter(|uid| *uid != u32::MAX);
    let lines = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    // a name first, as for chown(1): a name may consist of digits
    let entry = lines().find(|entry| entry[0] == user && !user.is_empty());
    let entry = entry.or_else(|| lines().find(|entry| number.is_some() && uid_of(entry) == number));
    let Some(uid) = entry.as_deref().map_or(number, uid_of) else {
        return Err(format!("/etc/passwd has no user `{user}`; a number needs no entry"));
    };
    if let Some(name) = wanted_group {
        let gid = group_number(name, group)
            .ok_or_else(|| format!("/etc/group has no group `{name}`; a number needs no entry"))?;
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let gid = entry.as_deref().and_then(|entry| entry.get(3)?.parse().ok());
    let (Some(gid), Some(entry)) = (gid, &entry) else {
        return Err(format!("/etc/passwd has no user {uid}: give a group, {uid}:GROUP"));
    };
    let mut groups = vec![gid];
    for line in group.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
        let is_member = line.get(3).is_some_and(|list| list.split(',').any(|one| one == entry[0]));
        let number = line.get(2).and_then(|number| number.parse().ok());
        groups.extend(number.filter(|number| is_member && !groups.contains(number)));
    }
    Ok(User { uid, gid, groups })
}

fn uid_of(entry: &[&str]) -> Option<u32> {
    entry.get(2)?.parse().ok()
}

fn group_number(name: &str, group: &str) -> Option<u32> {
    let mut lines = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = lines.find(|entry| entry[0] == name && !name.is_empty());
    let number = entry.map_or_else(|| name.parse().ok(), |entry| uid_of(&entry));
    number.filter(|gid| *gid != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          www:x:33:34::/var/www:/bin/false\n\
                          100:x:7:8::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:www,root\ntape:x:26:root\nx:x:5:www\n";

    fn found(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
        find(text, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn a_user_has_the_groups_of_a_login_or_one_group() {
        assert_eq!(found("www"), Ok((33, 34, vec![34, 4, 5])));
        assert_eq!(found("33"), Ok((33, 34, vec![34, 4, 5])));
        assert_eq!(found("www:tape"), Ok((33, 26, vec![])));
        assert_eq!(found("12:13"), Ok((12, 13, vec![])));
        // a name of digits is a name
        assert_eq!(found("100"), Ok((7, 8, vec![8])));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for text in ["", ":", "nobody", "12", "www:", "www:none", "-1", "4294967295:0", "www:-1"] {
            assert!(found(text).is_err(), "{text}: {:?}", found(text));
        }
    }
}
