//! Who a program runs as: users and groups of the image's own `/etc/passwd` and `/etc/group`.

use std::fs;

use abi::agent::reply::{Code, Failure};

/// A user, as the kernel wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, each once.
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` where nobody knows one.
    pub(crate) home: String,
}

/// The user that `user` names (`name`, `uid`, `name:group`, `uid:gid`), in `groups` besides its own.
pub(crate) fn resolve(user: Option<&str>, groups: &[String]) -> Result<Ids, Failure> {
    // An image without these files has only numbers.
    let read =
        |path| fs::read(path).map_or(String::new(), |b| String::from_utf8_lossy(&b).into_owned());
    look_up(
        user.unwrap_or("0"),
        groups,
        &read("/etc/passwd"),
        &read("/etc/group"),
    )
}

fn look_up(user: &str, extra: &[String], passwd: &str, group: &str) -> Result<Ids, Failure> {
    let (user, group_of) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // The name first, as `getpwnam` before `getpwuid`.
    let find = |field: usize| {
        passwd
            .lines()
            .map(fields)
            .find(|fields| fields[field] == user)
    };
    let entry = find(0).or_else(|| find(2));
    let mut ids = match &entry {
        Some(fields) => Ids {
            uid: number(fields[2]).ok_or_else(|| unknown("user", user))?,
            gid: number(fields[3]).ok_or_else(|| unknown("user", user))?,
            groups: memberships(group, fields[0]),
            home: fields[5].to_owned(),
        },
        None => Ids {
            // Even an image without a list of users has this one.
            uid: if user == "root" {
                0
            } else {
                number(user).ok_or_else(|| unknown("user", user))?
            },
            ..Ids::default()
        },
    };
    if !ids.home.starts_with('/') {
        ids.home = "/".into();
    }
    if let Some(name) = group_of.filter(|name| !name.is_empty()) {
        ids.gid = find_group(group, name)?;
        // Who names a group wants that one alone, as image tools have it.
        ids.groups.clear();
    }
    for name in extra {
        ids.groups.push(find_group(group, name)?);
    }
    ids.groups.push(ids.gid);
    ids.groups.sort_unstable();
    ids.groups.dedup();
    Ok(ids)
}

/// The fields of a line; those that are missing are empty.
fn fields(line: &str) -> [&str; 7] {
    let mut fields = [""; 7];
    for (field, text) in fields.iter_mut().zip(line.split(':')) {
        *field = text;
    }
    fields
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    let lines = group.lines().map(fields);
    lines
        .filter(|fields| fields[3].split(',').any(|member| member == user))
        .filter_map(|fields| number(fields[2]))
        .collect()
}

fn find_group(group: &str, name: &str) -> Result<u32, Failure> {
    let named = group.lines().map(fields).find(|fields| fields[0] == name);
    named
        .and_then(|fields| number(fields[2]))
        .or_else(|| number(name))
        .ok_or_else(|| unknown("group", name))
}

/// An id. The largest number means "no change" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id != u32::MAX)
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format_args!("there is no {what} {name:?} in this image"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\n77:x:5:5::/odd:\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\ntty:x:5:www,root\nssl:x:99:www\n";

    fn ids(user: &str, extra: &[&str]) -> Option<(u32, u32, Vec<u32>, String)> {
        let extra: Vec<String> = extra.iter().map(|&name| name.into()).collect();
        let ids = look_up(user, &extra, PASSWD, GROUP).ok()?;
        Some((ids.uid, ids.gid, ids.groups, ids.home))
    }

    #[test]
    fn users_are_found_as_images_name_them() {
        assert_eq!(
            ids("www", &[]),
            Some((33, 34, vec![5, 34, 99], "/var/www".into()))
        );
        assert_eq!(
            ids("33", &[]),
            Some((33, 34, vec![5, 34, 99], "/var/www".into()))
        );
        assert_eq!(
            ids("www:ssl", &[]),
            Some((33, 99, vec![99], "/var/www".into()))
        );
        assert_eq!(
            ids("1000:1001", &[]),
            Some((1000, 1001, vec![1001], "/".into()))
        );
        assert_eq!(ids("1000", &[]), Some((1000, 0, vec![0], "/".into())));
        assert_eq!(ids("", &[]), Some((0, 0, vec![0, 5], "/root".into())));
        assert_eq!(
            ids("www", &["root", "7"]),
            Some((33, 34, vec![0, 5, 7, 34, 99], "/var/www".into()))
        );
    }

    #[test]
    fn a_name_of_digits_is_a_name_first() {
        assert_eq!(ids("77", &[]).map(|ids| ids.0), Some(5));
    }

    #[test]
    fn what_is_not_there_is_said() {
        for user in ["nobody", "root:nothing", "4294967295", "-1", "broken"] {
            assert_eq!(ids(user, &[]), None, "{user}");
        }
        assert_eq!(ids("root", &["nothing"]), None);
    }

    #[test]
    fn an_image_without_the_files_has_numbers() {
        let ids = look_up("5:6", &[], "", "").expect("numbers need no file");
        assert_eq!((ids.uid, ids.gid), (5, 6));
        assert_eq!(look_up("root", &[], "", "").map(|ids| ids.uid), Ok(0));
        assert!(look_up("www", &[], "", "").is_err());
    }
}
