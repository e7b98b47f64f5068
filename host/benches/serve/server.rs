//! A server's process: started, listening, and ended on every path.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::contender::Contender;
use crate::usage::{Footprint, members};

/// For the thread that ends it with us. One server runs at a time.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// A server that listens. It has a process group of its own, and with its helpers is gone when this
/// is dropped.
pub(crate) struct Server {
    process: Child,
    group: Pid,
    pub(crate) address: SocketAddr,
    /// From the start of the process to the line that it listens.
    pub(crate) started_in: Duration,
}

impl Server {
    pub(crate) fn start(contender: &Contender) -> anyhow::Result<Self> {
        Self::start_within(contender, START_DEADLINE)
    }

    pub(crate) fn start_within(contender: &Contender, patience: Duration) -> anyhow::Result<Self> {
        let stdout = fs::File::create(&contender.stdout)?;
        let mut command = contender.command();
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0);

        // Locked across the start: a signal never finds a server that it does not know of.
        let mut running = RUNNING.lock().unwrap();
        let start = Instant::now();
        let mut process = command
            .spawn()
            .with_context(|| format!("starting {contender}"))?;
        let group = Pid::from_child(&process);
        *running = Some(group);
        drop(running);

        let stderr = process.stderr.take().expect("it is piped");
        let mut server = Self {
            process,
            group,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            started_in: Duration::ZERO,
        };
        let said = announced(BufReader::new(stderr));
        server.address = match contender.address {
            Some(address) => wait_for(address)?,
            None => match said.recv_timeout(patience) {
                Ok(said) => said.map_err(|said| anyhow::anyhow!("it did not start: {said}"))?,
                Err(_) => bail!("it does not say where it listens"),
            },
        };
        server.started_in = start.elapsed();
        Ok(server)
    }

    /// CPU time of the server and its helpers so far.
    pub(crate) fn cpu(&self) -> Duration {
        members(self.group).map(|member| member.cpu).sum()
    }

    /// Memory that is resident now, in bytes, summed over the server and its helpers.
    pub(crate) fn resident_memory(&self) -> u64 {
        members(self.group).map(|member| member.memory).sum()
    }

    /// What the memory of the server itself is made of.
    pub(crate) fn footprint(&self) -> anyhow::Result<Footprint> {
        Footprint::of(self.process.id())
    }

    /// Threads of the server and its helpers.
    pub(crate) fn threads(&self) -> u64 {
        members(self.group).map(|member| member.threads).sum()
    }

    /// File descriptors that they have open.
    pub(crate) fn descriptors(&self) -> u64 {
        members(self.group).map(|member| member.descriptors).sum()
    }

    /// The most memory that was resident, in bytes, summed over the server and its helpers.
    pub(crate) fn peak_memory(&self) -> u64 {
        members(self.group).map(|member| member.peak_memory).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Politely first: nginx and gunicorn then end their workers.
        kill_process(self.group, Signal::TERM).ok();
        let patience = Instant::now() + Duration::from_secs(3);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        let mut running = RUNNING.lock().unwrap();
        kill_process_group(self.group, Signal::KILL).ok();
        self.process.wait().ok();
        *running = None;
    }
}

/// Ends the server that runs, this process and its files when we are told to stop: with a group of
/// its own the server does not hear Ctrl-C.
pub(crate) fn end_with_signals(scratch: PathBuf) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let watch = |kind| {
        let _in_runtime = runtime.enter();
        signal(kind)
    };
    let (mut interrupt, mut terminate) = (
        watch(SignalKind::interrupt())?,
        watch(SignalKind::terminate())?,
    );
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        let running = RUNNING.lock().unwrap();
        if let Some(group) = *running {
            kill_process_group(group, Signal::KILL).ok();
        }
        fs::remove_dir_all(scratch).ok();
        std::process::exit(130);
    });
    Ok(())
}

/// Reads stderr to its end so that the server never waits for us, and gives the address in the first
/// line that has one, or all that was said if none has.
fn announced(
    mut stderr: impl io::BufRead + Send + 'static,
) -> mpsc::Receiver<Result<SocketAddr, String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        for line in stderr.by_ref().lines().map_while(Result::ok) {
            if let Some(address) = address(&line) {
                sender.send(Ok(address)).ok();
                io::copy(&mut stderr, &mut io::sink()).ok();
                return;
            }
            said = said + line.trim() + " ";
        }
        sender.send(Err(said)).ok();
    });
    receiver
}

fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line
        .split_once("http://")
        .or_else(|| line.split_once("https://"))?;
    rest.split(['/', ' ']).next()?.parse().ok()
}

fn wait_for(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + START_DEADLINE;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("it does not listen on {address}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(address)
}

/// A cold compile is in it.
const START_DEADLINE: Duration = Duration::from_secs(120);
