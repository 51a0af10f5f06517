//! Named places where a build for crash tests can be told to die (`EYEBOLT_TORTURE_FAILPOINT=name:n:kill`, or `stop`).

/// Dies here, where this build and this process are told so.
#[cfg(not(feature = "torture"))]
pub(crate) fn hit(_: &'static str) {}

/// Dies here, where this process is told so.
#[cfg(feature = "torture")]
pub(crate) fn hit(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        name: String,
        left: AtomicU32,
        signal: Signal,
    }
    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let told = std::env::var("EYEBOLT_TORTURE_FAILPOINT").ok()?;
        let mut parts = told.split(':');
        let name = parts.next()?.to_owned();
        let left = AtomicU32::new(parts.next()?.parse().ok()?);
        let signal = if parts.next()? == "stop" { Signal::STOP } else { Signal::KILL };
        Some(Armed { name, left, signal })
    });
    let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
    if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        _ = kill_process(getpid(), armed.signal);
    }
}
