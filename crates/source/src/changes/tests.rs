//! Real files that change while somebody watches.

use std::fs;

use super::*;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

/// Watches a fresh directory, does something, and expects a sign or silence.
#[track_caller]
fn check(act: impl FnOnce(&Path), sign: bool) {
    let root = tempfile::tempdir().unwrap();
    let watched = root.path().join("cluster");
    fs::create_dir(&watched).unwrap();
    let mut changes = Changes::of(&[&watched]);
    act(&watched);
    assert_eq!(changes.wait(if sign { LONG } else { SHORT }).unwrap(), sign);
}

#[test]
fn silence_is_no_sign() {
    check(|_| (), false);
}

#[test]
fn a_new_file_is_a_sign() {
    check(|directory| fs::write(directory.join("a.yaml"), "a").unwrap(), true);
}

#[test]
fn a_file_renamed_into_place_is_a_sign() {
    check(
        |directory| {
            let outside = directory.with_file_name("outside");
            fs::write(&outside, "a").unwrap();
            fs::rename(outside, directory.join("a.yaml")).unwrap();
        },
        true,
    );
}

#[test]
fn a_draft_is_no_sign_before_it_is_renamed() {
    check(|directory| fs::write(directory.join(".a.yaml"), "a").unwrap(), false);
    let links = |directory: &Path| {
        fs::write(directory.join("..draft"), "a").unwrap();
        fs::rename(directory.join("..draft"), directory.join("..data")).unwrap();
    };
    check(links, true);
}

#[test]
fn whoever_takes_a_file_away_has_time_to_put_another_there() {
    let of = |mask, name| Sign::of(mask, Some(OsStr::new(name)));
    assert_eq!(of(EventMask::MOVED_TO, "a.yaml"), Sign::Whole);
    for mask in [EventMask::DELETE, EventMask::MOVED_FROM, EventMask::MODIFY, EventMask::CREATE] {
        assert_eq!(of(mask, "a.yaml"), Sign::Unsettled, "{mask:?}");
    }
}

#[test]
fn what_happens_beside_the_directory_is_no_sign() {
    check(|directory| fs::write(directory.with_file_name("other"), "a").unwrap(), false);
}

#[test]
fn a_replaced_directory_is_a_sign_and_stays_watched() {
    let root = tempfile::tempdir().unwrap();
    let watched = root.path().join("cluster");
    fs::create_dir(&watched).unwrap();
    let mut changes = Changes::of(&[&watched]);

    fs::rename(&watched, root.path().join("old")).unwrap();
    assert!(changes.wait(LONG).unwrap(), "gone");
    fs::create_dir(&watched).unwrap();
    assert!(changes.wait(LONG).unwrap(), "another one");
    // The replacement may be reported twice: once by its place, once by its inode.
    while changes.wait(SHORT).unwrap() {}
    fs::write(root.path().join("old/a.yaml"), "a").unwrap();
    assert!(!changes.wait(SHORT).unwrap(), "the old one is not watched any more");
    fs::write(watched.join("a.yaml"), "a").unwrap();
    assert!(changes.wait(LONG).unwrap(), "the new one is");
}

#[test]
fn a_link_that_is_flipped_is_a_sign() {
    let root = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let link = root.path().join("cluster");
    std::os::unix::fs::symlink("one", &link).unwrap();
    let mut changes = Changes::of(&[&link]);
    std::os::unix::fs::symlink("two", root.path().join("tmp")).unwrap();
    fs::rename(root.path().join("tmp"), &link).unwrap();
    assert!(changes.wait(LONG).unwrap());
    while changes.wait(SHORT).unwrap() {}
    fs::write(root.path().join("two/a.yaml"), "a").unwrap();
    assert!(changes.wait(LONG).unwrap());
}

#[test]
fn a_burst_without_end_is_reported_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let mut changes = Changes::of(&[root.path()]);
    let path = root.path().join("a.yaml");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, "a").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        assert!(changes.wait(LONG).unwrap());
        assert!(start.elapsed() < LONG / 2, "the burst never ends, the wait does");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
