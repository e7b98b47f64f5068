//! Clients that ask again and again, and how often they were answered what.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep};

use crate::answer::Answer;
use crate::load;
use crate::spread::number;

/// How long one waits who was refused: else this would be a flood, which is another attack.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// In place of a status: no answer, or none that was whole.
pub(crate) const BROKEN: u16 = 0;

/// One thread for all of them: the server needs the cores.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

/// Clients that do the same.
pub(crate) struct Clients {
    pub(crate) count: u32,
    /// How often each asks, if it does not do so as soon as it is answered.
    pub(crate) every: Option<Duration>,
    /// What each asks, in turn.
    pub(crate) requests: Vec<Vec<u8>>,
}

/// They ask until this is dropped.
#[derive(Default)]
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    answers: Arc<Answers>,
}

impl Crowd {
    pub(crate) fn add(&mut self, runtime: &Handle, address: SocketAddr, clients: &Clients) {
        for nth in 0..clients.count {
            let began = Instant::now();
            let turn = |every: Duration| (began + every / clients.count * nth, every);
            let turns = clients.every.map(turn);
            let mut requests = clients.requests.clone();
            // Not all the same at the same time.
            let first = nth as usize % requests.len().max(1);
            requests.rotate_left(first);
            self.spawn(runtime, |answers| client(address, requests, turns, answers));
        }
    }

    /// Somebody else, who counts what he is answered.
    pub(crate) fn spawn<Task>(&mut self, runtime: &Handle, task: impl FnOnce(Arc<Answers>) -> Task)
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        self.tasks
            .spawn_on(task(Arc::clone(&self.answers)), runtime);
    }

    /// What was answered since this was last asked.
    pub(crate) fn take(&self) -> Counts {
        let mut answers = self
            .answers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *answers)
    }
}

/// Where the answers of a crowd are counted.
#[derive(Default)]
pub(crate) struct Answers(Mutex<Counts>);

impl Answers {
    pub(crate) fn count(&self, status: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.count(status);
    }
}

/// Answers by their status, and [`BROKEN`] ones.
#[derive(Default)]
pub(crate) struct Counts(BTreeMap<u16, u64>);

impl Counts {
    pub(crate) fn count(&mut self, status: u16) {
        *self.0.entry(status).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (status, count) in other.0 {
            *self.0.entry(status).or_default() += count;
        }
    }

    /// Those whose status is none of these.
    pub(crate) fn others_than(&self, statuses: &[u16]) -> u64 {
        let others = self
            .0
            .iter()
            .filter(|(status, _)| !statuses.contains(status));
        others.map(|(_, count)| count).sum()
    }

    /// How many there were of each in a second.
    pub(crate) fn a_second(&self, period: Duration) -> Vec<String> {
        self.said(|count| format!("{}/s", number(count as f64 / period.as_secs_f64())))
    }

    fn said(&self, count: impl Fn(u64) -> String) -> Vec<String> {
        let one = |(status, many): (&u16, &u64)| match *status {
            BROKEN => format!("{} broken off", count(*many)),
            status => format!("{} {status}", count(*many)),
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said(|count| format!("{count} ×")).join(", "))
    }
}

async fn client(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    turns: Option<(Instant, Duration)>,
    answers: Arc<Answers>,
) {
    // Who is late catches up.
    let mut turns = turns.map(|(first, every)| interval_at(first, every));
    let mut connection: Option<TcpStream> = None;
    for request in requests.iter().cycle() {
        if let Some(turns) = &mut turns {
            turns.tick().await;
        }
        let asked = async {
            let stream = match &mut connection {
                Some(stream) => stream,
                none => none.insert(load::connect(address).await?),
            };
            load::ask_for(Answer::of_any_status(), stream, request).await
        };
        let (status, closes) = asked
            .await
            .map_or((BROKEN, true), |answer| (answer.status, answer.closes));
        answers.count(status);
        if closes {
            connection = None;
        }
        if matches!(status, BROKEN | 503) {
            sleep(PAUSE).await;
        }
    }
}
