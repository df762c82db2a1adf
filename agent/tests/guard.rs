//! Least privilege: what is refused after the start, and that the agent collects all the same.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod agent;

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::account::Account;
use harness::generate::{Generator, Options, journal_directory};
use harness::journal::read_all;
use harness::proxy::Proxy;
use harness::receive::Receiver;
use harness::wire::Output;
use tailwake::guard::{self, Confines, Standing};

use agent::{Agent, PATIENCE, directory, wait_until};

/// Bit 2 of the sets in /proc: CAP_DAC_READ_SEARCH.
const DAC_READ_SEARCH: u64 = 1 << 2;

/// A raw system call of up to five arguments; the error's number, or 0.
fn call(number: libc::c_long, arguments: [usize; 5]) -> i32 {
    let [a, b, c, d, e] = arguments;
    // SAFETY: each call below is refused before it looks at its arguments, or fails on zeros.
    let done = unsafe { libc::syscall(number, a, b, c, d, e) };
    if done < 0 {
        io::Error::last_os_error().raw_os_error().unwrap_or(-1)
    } else {
        0
    }
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn confines(directory: &Path, port: u16) -> Confines {
    Confines {
        read: vec!["/etc/hosts".into()],
        roots: vec![directory.join("pods")],
        state: directory.join("state"),
        ports: Some(vec![port]),
    }
}

/// Runs in a thread of its own under the guard: all of it is a thread's property.
fn guarded<T: Send>(confines: &Confines, run: impl FnOnce(guard::Report) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| run(guard::enter(confines, &|| true)));
        inside.join().unwrap()
    })
}

fn holds(report: &guard::Report, name: &str) -> bool {
    let all = &report.mechanisms;
    let found = all.iter().find(|mechanism| mechanism.name == name).unwrap();
    if found.standing != Standing::Holds {
        println!("{name}: {:?} {}", found.standing, found.said);
    }
    found.standing == Standing::Holds
}

#[test]
fn calls_that_a_collector_does_not_make_are_refused() {
    let directory = directory("calls");
    guarded(&confines(&directory, 1), |report| {
        if !holds(&report, "seccomp") {
            return println!("SKIP: this kernel has no seccomp");
        }
        for (name, number, first) in [
            ("bpf BPF_MAP_CREATE", libc::SYS_bpf, 0),
            ("bpf BPF_PROG_LOAD", libc::SYS_bpf, 5),
            ("bpf BPF_LINK_CREATE", libc::SYS_bpf, 28),
            ("bpf BPF_MAP_GET_NEXT_KEY", libc::SYS_bpf, 4),
            ("bpf BPF_MAP_GET_FD_BY_ID", libc::SYS_bpf, 14),
            ("execve", libc::SYS_execve, 0),
            ("execveat", libc::SYS_execveat, 0),
            ("ptrace", libc::SYS_ptrace, 0),
            ("process_vm_readv", libc::SYS_process_vm_readv, 0),
            ("perf_event_open", libc::SYS_perf_event_open, 0),
            ("io_uring_setup", libc::SYS_io_uring_setup, 8),
            ("io_uring_register", libc::SYS_io_uring_register, 0),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, 0),
            ("mount", libc::SYS_mount, 0),
            ("unshare", libc::SYS_unshare, 0),
            ("setns", libc::SYS_setns, 0),
            ("keyctl", libc::SYS_keyctl, 0),
            ("finit_module", libc::SYS_finit_module, 0),
            ("kexec_load", libc::SYS_kexec_load, 0),
        ] {
            assert_eq!(call(number, [first, 0, 0, 0, 0]), libc::EPERM, "{name}");
        }
        let user = usize::try_from(libc::CLONE_NEWUSER | libc::SIGCHLD).unwrap();
        assert_eq!(call(libc::SYS_clone, [user, 0, 0, 0, 0]), libc::EPERM);
        assert_eq!(call(libc::SYS_clone3, [0; 5]), libc::ENOSYS);
        if cfg!(target_arch = "x86_64") {
            let x32 = 0x4000_0000 | libc::SYS_execve;
            assert_eq!(call(x32, [0; 5]), libc::EPERM);
        }
        assert_eq!(code(Command::new("/bin/true").spawn()), Some(libc::EPERM));
        // Element calls reach the kernel: there is no map behind the descriptor.
        let attribute = [u64::from(u32::MAX), 0, 0, 0];
        let at = attribute.as_ptr() as usize;
        for element in [1, 2, 3] {
            let answer = call(libc::SYS_bpf, [element, at, 32, 0, 0]);
            assert_eq!(answer, libc::EBADF, "bpf command {element}");
        }
        // Threads are started as before.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    });
}

#[test]
fn files_and_ports_that_are_not_listed_are_refused() {
    let directory = directory("files");
    let (pods, state) = (directory.join("pods"), directory.join("state"));
    fs::write(pods.join("0.log"), "a line\n").unwrap();
    let (listed, other) = (listener(), listener());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    guarded(&confines(&directory, port(&listed)), |report| {
        if !holds(&report, "landlock") {
            return println!("SKIP: this kernel has no Landlock, or a part of it only");
        }
        let refused = Some(libc::EACCES);
        assert_eq!(fs::read(pods.join("0.log")).unwrap(), b"a line\n");
        assert!(fs::read_dir(&pods).is_ok() && fs::read("/etc/hosts").is_ok());
        for file in [
            "/etc/shadow",
            "/etc/passwd",
            "/proc/self/status",
            "/dev/zero",
        ] {
            assert_eq!(code(File::open(file)), refused, "{file}");
        }
        assert_eq!(code(fs::read_dir("/root")), refused);
        let write = |path: PathBuf| code(fs::write(path, "x"));
        assert_eq!(write(state.join("positions.tmp")), None);
        let rename = fs::rename(state.join("positions.tmp"), state.join("positions"));
        assert_eq!(code(rename), None);
        assert_eq!(
            code(File::open(&state).and_then(|dir| dir.sync_all())),
            None
        );
        assert_eq!(write(pods.join("0.log")), refused);
        assert_eq!(write(pods.join("new")), refused);
        assert_eq!(write(directory.join("new")), refused);
        assert_eq!(code(fs::remove_file(pods.join("0.log"))), refused);
        assert_eq!(code(fs::create_dir(state.join("directory"))), refused);
        let link = std::os::unix::fs::symlink("/etc/shadow", state.join("link"));
        assert_eq!(code(link), refused);
        assert_eq!(code(TcpStream::connect(listed.local_addr().unwrap())), None);
        assert_eq!(
            code(TcpStream::connect(other.local_addr().unwrap())),
            refused
        );
        assert_eq!(code(TcpListener::bind("127.0.0.1:0")), refused);
    });
}

/// Prints what it costs; a bound would measure the machine.
#[test]
fn what_the_guard_costs_is_printed() {
    let directory = directory("cost");
    let calls = || {
        let begun = Instant::now();
        for _ in 0..200_000 {
            call(libc::SYS_getppid, [0; 5]);
        }
        begun.elapsed().as_nanos() / 200_000
    };
    let open = calls();
    let (took, guarded) = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let begun = Instant::now();
            guard::enter(&confines(&directory, 1), &|| true);
            (begun.elapsed(), calls())
        });
        inside.join().unwrap()
    });
    println!("the guard took {took:?}; a call costs {guarded} ns, {open} ns before");
}

#[test]
fn a_state_directory_of_another_user_keeps_the_capability_that_writes_it() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: not root");
    }
    let directory = directory("owner");
    std::os::unix::fs::chown(directory.join("state"), Some(65_534), Some(65_534)).unwrap();
    let kept = |maps: bool| {
        let confines = confines(&directory, 1);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                guard::enter(&confines, &|| maps);
                guard::held().to_string()
            });
            inside.join().unwrap()
        })
    };
    assert_eq!(kept(true), "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH");
    std::os::unix::fs::chown(directory.join("state"), Some(0), Some(0)).unwrap();
    assert_eq!(kept(true), "CAP_DAC_READ_SEARCH");
    assert_eq!(kept(false), "CAP_DAC_READ_SEARCH CAP_BPF");
}

#[test]
fn every_thread_of_the_agent_is_restricted_and_it_collects_all_the_same() {
    let directory = directory("collects");
    let receiver = Receiver::start(Vec::new()).unwrap();
    let proxy = Proxy::start(&format!("http://{}", receiver.address())).unwrap();
    // By name: the resolver's thread, files and sockets are used after the start.
    let url = format!("http://localhost:{}", proxy.address().port());
    let mut agent = Agent::start(&directory, &url, "", &[]);
    agent.wait_ready();
    let options = Options {
        directory: directory.clone(),
        pods: 4,
        records: Some(1_500),
        rate: 1_500,
        rotate_bytes: 200_000,
        duration: None,
        seed: 3,
        invalid_utf8: true,
        noise: false,
    };
    let generator = Generator::start(&options).unwrap();
    let written = |records| {
        while generator.written().records.load(Ordering::Relaxed) < records {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    written(1_000);
    proxy.cut(true);
    written(2_000);
    proxy.cut(false);
    let threads = agent.threads();
    let names: Vec<&str> = threads.iter().map(|thread| thread.name.as_str()).collect();
    for wanted in ["reader-0", "encoder-0", "disk"] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    for thread in &threads {
        let name = &thread.name;
        let own = thread.held & !DAC_READ_SEARCH;
        assert_eq!((own, thread.permitted), (0, thread.held), "{name}");
        assert_eq!((thread.no_new_privs, thread.seccomp), (1, 2), "{name}");
    }
    generator.wait().unwrap();
    let rotations = |account: &Account| account.rows.iter().map(|row| row.written).sum::<u64>();
    let journals = read_all(&journal_directory(&directory)).unwrap();
    let account = || Account::draw(&journals, receiver.tally(), &[Output::Loki]);
    wait_until("all records at the receiver", || account().missing() == 0);
    let done = account();
    assert!(done.is_clean() && rotations(&done) >= 6_000, "{done}");
    let status = agent.status();
    let privileges = &status["privileges"];
    assert_eq!(privileges["no_new_privs"]["holds"], true, "{privileges}");
    assert!(agent.end(PATIENCE), "the agent did not end");
    let positions = fs::read_to_string(directory.join("state/positions")).unwrap();
    assert!(positions.contains("loki"), "{positions}");
    assert!(!directory.join("state/positions.tmp").exists());
}

#[test]
fn privileges_are_kept_where_the_config_says_so() {
    let directory = directory("kept");
    let mut agent = Agent::start(
        &directory,
        "http://127.0.0.1:9",
        "privileges: {drop: false}",
        &[],
    );
    agent.wait_ready();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = agent::Thread::read(&own);
    for thread in agent.threads() {
        assert_eq!((thread.held, thread.seccomp), (own.held, own.seccomp));
    }
    assert_eq!(agent.status()["privileges"], serde_json::json!({}));
}

/// An agent that stands on inotify, with the reason for each rung above; it collects.
fn falls(name: &str, before: &[&str], cause: &str) {
    let directory = directory(name);
    let receiver = Receiver::start(Vec::new()).unwrap();
    let url = format!("http://{}", receiver.address());
    let mut agent = Agent::start(&directory, &url, "", before);
    agent.wait_ready();
    let status = agent.status();
    assert_eq!(status["rung"], "inotify", "{status}");
    let skipped = status["rungs_skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 3);
    for rung in skipped {
        let why = rung["why"].as_str().unwrap();
        let known = why.contains(cause) || why.contains("built without probes");
        assert!(known, "{name}: {why}");
        println!("{name}: {} {why}", rung["rung"]);
    }
    for thread in agent.threads() {
        assert_eq!(thread.held & !DAC_READ_SEARCH, 0);
        assert_eq!((thread.no_new_privs, thread.seccomp), (1, 2));
    }
    write_line(&directory);
    wait_until("an acknowledged line", || {
        let loki = agent.status()["outputs"]["loki"].clone();
        loki["lines_acknowledged"] == 1 && loki["lines_rejected"] == 0
    });
    assert!(agent.end(PATIENCE), "the agent did not end");
}

/// A new pod's first line.
fn write_line(directory: &Path) {
    let pod = directory.join("pods/default_pod_0000/app");
    fs::create_dir_all(&pod).unwrap();
    let line = "2026-01-01T00:00:00.000000000Z stdout F a line\n";
    fs::write(pod.join("0.log"), line).unwrap();
}

/// With probes in the binary each is missed; without, that is the reason.
#[test]
fn without_a_privilege_the_agent_stands_on_inotify_and_says_what_is_missing() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: not root");
    }
    let cure = "give it CAP_BPF and CAP_PERFMON";
    for (name, set) in [
        ("no-bpf", "-bpf,-sys_admin"),
        ("no-perfmon", "-perfmon,-sys_admin"),
        ("none-but-read", "-all,+dac_read_search"),
        ("none", "-all"),
    ] {
        falls(name, &["setpriv", "--bounding-set", set, "--"], cure);
    }
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    falls("no-btf", &["unshare", "-m", "sh", "-c", hide, "sh"], "btf");
}

/// The authorities are read at the first `https` call, after the start.
#[test]
fn authorities_can_still_be_read() {
    if fs::read_dir("/etc/ssl/certs").is_ok_and(|found| found.count() == 0) {
        return println!("SKIP: this machine trusts nobody");
    }
    let directory = directory("authorities");
    let plain = Receiver::start(Vec::new()).unwrap();
    let url = format!("https://localhost:{}", plain.address().port());
    let mut agent = Agent::start(&directory, &url, "", &[]);
    agent.wait_ready();
    write_line(&directory);
    let error = || {
        let error = agent.status()["outputs"]["loki"]["last_error"].clone();
        error.as_str().unwrap_or_default().to_owned()
    };
    wait_until("a refused handshake", || !error().is_empty());
    assert!(error().contains("InvalidContentType"), "{}", error());
}

/// As in a container whose seccomp profile knows no io_uring.
#[test]
fn where_io_uring_is_refused_the_agent_reads_with_pread() {
    let directory = directory("no-ring");
    let mut agent = Agent::start_without_ring(&directory, "http://127.0.0.1:9");
    agent.wait_ready();
    assert_eq!(agent.status()["io"], "pread");
    assert!(agent.log().contains("io_uring is refused here"));
    assert!(agent.threads().iter().all(|thread| thread.seccomp == 2));
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
