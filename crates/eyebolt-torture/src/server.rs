//! The real server as a process: started, killed, stopped, looked at.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::wire::Call;

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
    /// Everything but the failpoint.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A server, running or not.
pub(crate) struct Server {
    launch: Launch,
    child: Option<Child>,
}

/// What the machine says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Running,
    /// By SIGSTOP.
    Stopped,
    Ended(ExitStatus),
}

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);

impl Launch {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        // What the shell has set for some other server.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EYEBOLT_"))
        {
            command.env_remove(name);
        }
        command.args(arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs a subcommand to its end and reads what it prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(arguments).output().with_context(|| self.binary.display().to_string())?;
        let printed = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(printed.trim()).with_context(|| {
            format!("eyebolt {}: {printed}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
        })
    }

    fn spawn(&self, failpoint: Option<&str>) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command(&["serve"]);
        command.env("EYEBOLT_LISTEN", self.address.to_string());
        if let Some(failpoint) = failpoint {
            command.env("EYEBOLT_TORTURE_FAILPOINT", failpoint);
        }
        // A group of its own, so that signals reach its decoder processes too.
        command.process_group(0).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| self.binary.display().to_string())
    }
}

impl Server {
    pub(crate) fn new(launch: Launch) -> Self {
        Self { launch, child: None }
    }

    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Starts it; it does not answer yet.
    pub(crate) fn start(&mut self, failpoint: Option<&str>) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        self.child = Some(self.launch.spawn(failpoint)?);
        Ok(())
    }

    /// Waits until it answers, ends or is stopped, but not for ever.
    pub(crate) async fn healthy(&mut self, limit: Duration) -> anyhow::Result<Condition> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let reply = Call::get("/healthz").send(self.launch.address, Duration::from_millis(500)).await;
            let condition = self.condition()?;
            if condition != Condition::Running || reply.is_ok_and(|reply| reply.status == 200) {
                return Ok(condition);
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("the server does not answer after {} s; see {}", limit.as_secs(), self.launch.log.display())
    }

    /// Waits until it ends or is stopped by itself; whether it did.
    pub(crate) async fn leaves(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let end = Instant::now() + limit;
        while self.condition()? == Condition::Running {
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }

    pub(crate) fn condition(&mut self) -> anyhow::Result<Condition> {
        let child = self.child.as_mut().context("the server was not started")?;
        if let Some(status) = child.try_wait()? {
            return Ok(Condition::Ended(status));
        }
        Ok(if is_stopped(child.id()) { Condition::Stopped } else { Condition::Running })
    }

    /// Sends a signal to the server and its children.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the server was not started")?;
        Ok(kill_process_group(Pid::from_child(child), signal)?)
    }

    /// Kills what is left of it and waits for its end.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // Its group may be gone already.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Whether an end is a SIGKILL.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in brackets may hold anything.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// A free address. Its port is below those that outgoing connections take: a client that calls a server that is down
/// would otherwise take the server's own port in time, and talk to itself.
pub(crate) fn free_address(seed: u64) -> anyhow::Result<SocketAddr> {
    let first = 20_000 + (u64::from(std::process::id()) * 7 + seed) % 10_000;
    let mut addresses = (0..2_000).map(|step| SocketAddr::from((Ipv4Addr::LOCALHOST, (first + step) as u16)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).context("no port is free")
}

/// Endpoints that a log tells were switched off.
pub(crate) fn disabled_endpoints(log: &Path) -> anyhow::Result<BTreeSet<String>> {
    let log = std::fs::read(log).with_context(|| log.display().to_string())?;
    let log = String::from_utf8_lossy(&log).into_owned();
    let lines = log.lines().filter(|line| line.contains("webhook endpoint disabled"));
    let fields = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(fields.filter_map(|line| Some(line["fields"]["endpoint"].as_str()?.to_owned())).collect())
}

/// Lines of a log that tell of a write with an old lease.
pub(crate) fn fenced_lines(log: &Path) -> anyhow::Result<u64> {
    let log = std::fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&log).lines().filter(|line| line.contains("fenced")).count() as u64)
}
