//! Tests input, output and inherited state.

use super::*;

#[test]
fn every_byte_value_is_passed_on() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(Place::new().run("binary").output, all);
}

#[test]
fn both_streams_keep_their_order() {
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    assert_eq!(Place::new().run("both 5000").text(), lines);
}

#[test]
fn long_output_is_complete() {
    assert_eq!(Place::new().run("spam 3000000").output.len(), 3_000_000);
}

#[test]
fn command_inherits_no_descriptor() {
    let place = Place::new();
    let inherited = place.run("fds").text().to_owned();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(place.run("fds").text(), inherited);
                }
            });
        }
    });
    let mut standard = inherited.split_whitespace();
    assert!(
        ["0", "1", "2"]
            .iter()
            .all(|fd| standard.any(|open| open == *fd))
    );
}

#[test]
fn command_starts_with_default_signals() {
    let place = Place::new();
    let thread = std::thread::spawn(move || {
        block_every_signal();
        place.run_program(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    });
    let run = thread.join().unwrap();
    let (blocked, ignored) = run.text().split_once('\n').unwrap();
    assert_eq!(blocked, "SigBlk:\t0000000000000000");
    let ignored = ignored.trim_start_matches("SigIgn:").trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0);
}

fn block_every_signal() {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

#[test]
fn waiting_for_a_command_uses_no_cpu_time() {
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).unwrap()
    };
    let (place, before) = (Place::new(), used());
    let run = place.run("sleep 1000");
    let used = used() - before;
    assert!(run.duration >= Duration::from_secs(1));
    assert!(used < Duration::from_millis(150), "{used:?}");
}

#[test]
fn stopped_command_continues_after_cont() {
    let place = Place::new();
    // Longer than fbuild's interval of checks for a stopped command.
    let script = "(sleep 1.2; kill -CONT $$) & kill -STOP $$; wait; echo on";
    let run = place.run_program(&["sh", "-c", script]);
    assert_eq!((run.code(), run.text()), (Some(0), "on\n"));
    assert_eq!(run.left_behind(), 0);
}
