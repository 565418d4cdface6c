//! Who a container runs as: the pod's wish, the image's word, and the image's `/etc/passwd` and `/etc/group`.

use crate::shim::protocol::UserRequest;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, sorted.
    pub(crate) groups: Vec<u32>,
}

/// One line of `/etc/passwd`: name, UID, GID.
fn passwd_lines(passwd: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, uid, gid))
    })
}

/// One line of `/etc/group`: name, GID, members.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Resolves the user of a process.
///
/// # Errors
/// The image's word is a name that its files do not know; the message is fit for a pod's status.
pub(crate) fn resolve(request: &UserRequest, passwd: &str, group: &str) -> Result<User, String> {
    let (word, image_group) = match request.image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (request.image_user.as_str(), None),
    };
    let by_uid = |uid: u32| passwd_lines(passwd).find(|(_, u, _)| *u == uid);
    let entry = match (request.uid, word) {
        (Some(uid), _) => by_uid(uid).unwrap_or(("", uid, 0)),
        (None, "") => by_uid(0).unwrap_or(("root", 0, 0)),
        (None, word) => match passwd_lines(passwd).find(|(name, ..)| *name == word) {
            Some(entry) => entry,
            None => match word.parse() {
                Ok(uid) => by_uid(uid).unwrap_or(("", uid, 0)),
                Err(_) => {
                    return Err(format!(
                        "unable to find user {word}: no matching entries in passwd file"
                    ));
                }
            },
        },
    };
    let (name, uid, own_gid) = entry;
    let gid = match (request.gid, image_group) {
        (Some(gid), _) => gid,
        // The image's group belongs to the image's user only.
        (None, Some(word)) if request.uid.is_none() && !word.is_empty() => {
            match group_lines(group).find(|(name, ..)| *name == word) {
                Some((_, gid, _)) => gid,
                None => word
                    .parse()
                    .map_err(|_| format!("unable to find group {word}: no matching entries in group file"))?,
            }
        }
        _ => own_gid,
    };
    let mut groups = request.supplemental.clone();
    if request.merge_image_groups && !name.is_empty() {
        let member = |(_, _, members): &(&str, u32, &str)| members.split(',').any(|m| m.trim() == name);
        groups.extend(group_lines(group).filter(member).map(|(_, gid, _)| gid));
    }
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment\nbad\napp:x:1000:1001::/home/app:\nother:x:5:6::/:\n";
    const GROUP: &str = "root:x:0:\napps:x:1001:\nextra:x:50:app,other\nmore:x:51:app\n";

    fn check(request: UserRequest, expected: Result<(u32, u32, &[u32]), &str>) {
        let found = resolve(&request, PASSWD, GROUP);
        match (found, expected) {
            (Ok(u), Ok((uid, gid, groups))) => {
                assert_eq!(
                    (u.uid, u.gid, u.groups.as_slice()),
                    (uid, gid, groups),
                    "{request:?}"
                );
            }
            (Err(e), Err(part)) => assert!(e.contains(part), "{e}"),
            (found, _) => panic!("{request:?}: {found:?}"),
        }
    }

    #[test]
    fn users_are_resolved() {
        let image = |user: &str| UserRequest {
            image_user: user.into(),
            merge_image_groups: true,
            ..Default::default()
        };
        check(image(""), Ok((0, 0, &[0])));
        check(image("app"), Ok((1000, 1001, &[50, 51, 1001])));
        check(image("1000"), Ok((1000, 1001, &[50, 51, 1001])));
        check(image("app:extra"), Ok((1000, 50, &[50, 51])));
        check(image("app:77"), Ok((1000, 77, &[50, 51, 77])));
        check(image("4242"), Ok((4242, 0, &[0])));
        check(image("4242:4343"), Ok((4242, 4343, &[4343])));
        check(
            image("nobody"),
            Err("unable to find user nobody: no matching entries in passwd file"),
        );
        check(image("app:none"), Err("unable to find group none"));
        let strict = UserRequest {
            image_user: "app".into(),
            supplemental: vec![9],
            ..Default::default()
        };
        check(strict, Ok((1000, 1001, &[9, 1001])));
        let pod = UserRequest {
            uid: Some(1000),
            ..image("root:root")
        };
        check(pod.clone(), Ok((1000, 1001, &[50, 51, 1001])));
        check(UserRequest { gid: Some(3), ..pod }, Ok((1000, 3, &[3, 50, 51])));
        check(
            UserRequest {
                uid: Some(99),
                ..image("app")
            },
            Ok((99, 0, &[0])),
        );
    }
}
