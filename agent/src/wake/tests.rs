//! The ladder's promises on the running kernel, with the best rung that it allows.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Ladder, Rung, Wake};
use crate::plan::RungChoice;

/// A file that has no name any more.
fn file(name: &str) -> File {
    let name = format!("tailwake-wake-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn wakes(choice: RungChoice, readers: usize, files_max: u32) -> Vec<Wake> {
    let roots: Vec<PathBuf> = vec![std::env::temp_dir()];
    let (wakes, report) = Ladder::choose(choice, &roots, readers, files_max);
    println!("{report}");
    wakes
}

fn watch(wake: &mut Wake, token: u32, file: &File) {
    wake.watch(token, file, file.metadata().unwrap().ino())
        .unwrap();
}

/// The write's event is there when the write returns, on every rung.
fn write(mut file: &File) {
    file.write_all(b"line\n").unwrap();
}

fn woken(wake: &mut Wake) -> Vec<u32> {
    let mut woken = Vec::new();
    wake.drain(&mut woken).unwrap();
    woken.sort_unstable();
    woken
}

const CHOICES: [RungChoice; 5] = [
    RungChoice::Auto,
    RungChoice::Fexit,
    RungChoice::TpBtf,
    RungChoice::RawTp,
    RungChoice::Inotify,
];

#[test]
fn each_reader_hears_its_own_files_once_per_arm() {
    for choice in CHOICES {
        let mut wakes = wakes(choice, 4, 16);
        let files: Vec<File> = (0..4)
            .map(|i| file(&format!("own-{choice:?}-{i}")))
            .collect();
        for (wake, file) in wakes.iter_mut().zip(&files) {
            watch(wake, 7, file);
            assert_eq!(wake.rung_of(7), wake.rung());
            write(file);
            assert!(woken(wake).is_empty(), "not armed yet");
            wake.arm(7).unwrap();
        }
        write(&files[2]);
        write(&files[2]);
        let heard: Vec<usize> = wakes.iter_mut().map(|wake| woken(wake).len()).collect();
        assert_eq!(heard, [0, 0, 1, 0], "{choice:?}");
        wakes[2].arm(7).unwrap();
        write(&files[2]);
        assert_eq!(woken(&mut wakes[2]), [7]);
        wakes[2].arm(7).unwrap();
        wakes[2].unwatch(7);
        write(&files[2]);
        assert!(woken(&mut wakes[2]).is_empty());
        assert!(wakes[2].arm(7).is_err());
        assert_eq!(wakes[2].meter().refused(), 0);
    }
}

#[test]
fn all_tokens_of_one_inode_wake_in_both_readers() {
    for choice in CHOICES {
        let mut wakes = wakes(choice, 2, 16);
        let file = file(&format!("shared-{choice:?}"));
        for token in [1, 2] {
            watch(&mut wakes[0], token, &file);
            wakes[0].arm(token).unwrap();
        }
        watch(&mut wakes[1], 3, &file);
        wakes[1].arm(3).unwrap();
        assert_eq!(
            wakes[1].rung_of(3),
            Rung::Inotify,
            "the number is the other reader's"
        );
        write(&file);
        assert_eq!(woken(&mut wakes[0]), [1, 2]);
        assert_eq!(woken(&mut wakes[1]), [3]);
    }
}

#[test]
fn an_event_for_a_slot_given_away_wakes_nobody() {
    for choice in CHOICES {
        let mut wakes = wakes(choice, 1, 1);
        let wake = &mut wakes[0];
        let (first, second) = (
            file(&format!("a-{choice:?}")),
            file(&format!("b-{choice:?}")),
        );
        watch(wake, 1, &first);
        wake.arm(1).unwrap();
        write(&first);
        wake.unwatch(1);
        watch(wake, 2, &second);
        assert!(woken(wake).is_empty());
        assert_eq!(wake.counters().stale, 1);
        wake.arm(2).unwrap();
        write(&second);
        assert_eq!(woken(wake), [2]);
    }
}

#[test]
fn a_full_table_leaves_the_next_file_to_inotify() {
    let mut wakes = wakes(RungChoice::Auto, 1, 1);
    let (first, second) = (file("full-a"), file("full-b"));
    for (token, file) in [(0, &first), (1, &second)] {
        watch(&mut wakes[0], token, file);
        wakes[0].arm(token).unwrap();
        write(file);
    }
    assert_eq!(woken(&mut wakes[0]), [0, 1]);
    assert_eq!(wakes[0].rung_of(1), Rung::Inotify);
}

#[test]
fn hooks_before_the_size_moves_say_where_it_will_end() {
    for choice in [RungChoice::TpBtf, RungChoice::RawTp] {
        let mut wakes = wakes(choice, 1, 4);
        let file = file(&format!("end-{choice:?}"));
        watch(&mut wakes[0], 0, &file);
        wakes[0].arm(0).unwrap();
        assert_eq!(wakes[0].expected_end(0), None);
        write(&file);
        write(&file);
        let want = if wakes[0].rung() == Rung::Inotify {
            None
        } else {
            Some(10)
        };
        assert_eq!(wakes[0].expected_end(0), want);
    }
}

/// Where there are probes, the kernel's page names every attached program, at any time.
#[test]
fn the_meter_reads_each_attached_program() {
    let mut wakes = wakes(RungChoice::Auto, 1, 8);
    let wake = &mut wakes[0];
    let meter = wake.meter();
    assert_eq!(
        meter.times().is_empty(),
        matches!(wake.rung(), Rung::Inotify | Rung::SweepOnly)
    );
    assert!(meter.answers());
}
