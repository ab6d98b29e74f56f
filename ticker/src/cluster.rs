//! The databases of one server share its transactions: while none has ended, none of them need be looked at.
//!
//! A database whose last look found nothing goes to sleep with what was visible *before* that look: the server's
//! snapshot, as a number. A [`Watch`] reads it, one short statement for all databases of the server, and wakes those that
//! slept before it changed. This hides no commit: what the look saw is at least that, and whatever becomes visible later
//! changes the snapshot, in the same instant.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tidemill_common::service::{Pace, Shutdown, Tasks, Wake};

use crate::database::Database;
use crate::watch::{self, Watch};

/// A running server as the connections to it say: not what a URL looks like, but who answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Made by `initdb`; `None` if it may not be read.
    pub system: Option<i64>,
    /// Address and port by its own account.
    pub address: String,
    /// When it was started: a copy, a standby or the same one after a restart is another.
    pub started: SystemTime,
}

/// All servers that this process has connections to.
pub struct Clusters {
    known: Mutex<HashMap<Server, Arc<Cluster>>>,
    tasks: Option<Tasks>,
}

/// One server and its databases.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    state: Mutex<State>,
    /// Ends its watch with the last member.
    ended: Shutdown,
}

#[derive(Debug)]
struct State {
    members: BTreeMap<String, Arc<Database>>,
    /// What was visible when it was last read. `None`: it cannot be read now; everybody looks for himself.
    visible: Option<i64>,
    /// Who sleeps until it changes, and from what.
    asleep: HashMap<String, (i64, Wake)>,
    /// Who has to be woken, a few at a time.
    waking: VecDeque<Wake>,
}

/// A database's place in its cluster. Dropping it is leaving.
#[derive(Debug)]
pub struct Member {
    name: String,
    wake: Wake,
    clusters: Arc<Clusters>,
    cluster: Arc<Cluster>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clusters").finish_non_exhaustive()
    }
}

impl Clusters {
    /// No server is known yet. `tasks` run the watches; without them nobody watches, and every database looks for
    /// itself.
    #[must_use]
    pub fn new(tasks: Option<Tasks>) -> Self {
        Self { known: Mutex::default(), tasks }
    }

    /// A database joins those of its server; the first one starts the watch.
    pub fn join(self: &Arc<Self>, server: Server, database: Arc<Database>) -> Member {
        let mut known = lock(&self.known);
        let cluster = known.entry(server).or_insert_with_key(|server| self.start(server));
        let (name, wake) = (database.name().to_owned(), database.wakes().tick.clone());
        lock(&cluster.state).members.insert(name.clone(), database);
        Member { name, wake, clusters: Arc::clone(self), cluster: Arc::clone(cluster) }
    }

    fn start(&self, server: &Server) -> Arc<Cluster> {
        let ended = self.tasks.as_ref().map_or_else(Shutdown::new, |tasks| tasks.shutdown().child());
        let cluster = Arc::new(Cluster::new(server.clone(), ended.clone()));
        if let Some(tasks) = &self.tasks {
            let watch = Watch::new(Arc::clone(&cluster));
            tasks.run_until(watch, Pace::every(watch::INTERVAL), ended);
        }
        cluster
    }
}

impl Member {
    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.cluster.server
    }

    /// Goes to sleep until something else than `visible` is. False: that is so already, or nobody watches.
    #[must_use]
    pub fn sleep(&self, visible: i64) -> bool {
        self.cluster.sleep(&self.name, visible, &self.wake)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut known = lock(&self.clusters.known);
        let mut state = lock(&self.cluster.state);
        state.members.remove(&self.name);
        state.asleep.remove(&self.name);
        if state.members.is_empty() {
            self.cluster.ended.begin();
            known.remove(&self.cluster.server);
        }
    }
}

impl Cluster {
    pub(crate) fn new(server: Server, ended: Shutdown) -> Self {
        let state = State {
            members: BTreeMap::new(),
            visible: None,
            asleep: HashMap::new(),
            waking: VecDeque::new(),
        };
        Self { server, state: Mutex::new(state), ended }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Its databases, by name.
    pub(crate) fn members(&self) -> Vec<Arc<Database>> {
        lock(&self.state).members.values().cloned().collect()
    }

    fn sleep(&self, name: &str, visible: i64, wake: &Wake) -> bool {
        let mut state = lock(&self.state);
        let still = state.visible == Some(visible);
        if still {
            // Under the lock: either the watch sees who sleeps, or it has noted the change before.
            state.asleep.insert(name.to_owned(), (visible, wake.clone()));
        }
        still
    }

    /// This was visible a moment ago. Those that slept through the change are to be woken.
    pub(crate) fn saw(&self, visible: i64) {
        let mut state = lock(&self.state);
        if state.visible != Some(visible) {
            state.visible = Some(visible);
            state.rouse(|slept_at| slept_at != visible);
        }
    }

    /// The server does not answer: everybody looks for himself, until it does.
    pub(crate) fn blind(&self) {
        let mut state = lock(&self.state);
        state.visible = None;
        state.rouse(|_| true);
    }

    /// Wakes at most `count` of those that are to be woken. True: there are more.
    pub(crate) fn wake(&self, count: usize) -> bool {
        let mut state = lock(&self.state);
        let count = count.min(state.waking.len());
        state.waking.drain(..count).for_each(|wake| wake.wake());
        !state.waking.is_empty()
    }
}

impl State {
    fn rouse(&mut self, who: impl Fn(i64) -> bool) {
        let Self { asleep, waking, .. } = self;
        asleep.retain(|_, (visible, wake)| {
            let roused = who(*visible);
            if roused {
                waking.push_back(wake.clone());
            }
            !roused
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn cluster() -> Cluster {
        let server = Server { system: Some(1), address: ":5432".into(), started: SystemTime::UNIX_EPOCH };
        Cluster::new(server, Shutdown::new())
    }

    fn is_woken(wake: &Wake) -> bool {
        wake.woken().now_or_never().is_some()
    }

    #[test]
    fn nobody_sleeps_while_nobody_watches() {
        let cluster = cluster();
        assert!(!cluster.sleep("a", 7, &Wake::new()));
    }

    #[test]
    fn a_change_wakes_those_that_slept_before() {
        let cluster = cluster();
        let (a, b) = (Wake::new(), Wake::new());
        cluster.saw(7);
        assert!(cluster.sleep("a", 7, &a));
        // Looked later than the watch did: what it saw is newer than what the watch knows.
        assert!(!cluster.sleep("b", 8, &b));
        cluster.saw(7);
        assert!(!cluster.wake(9) && !is_woken(&a));
        cluster.saw(8);
        assert!(cluster.sleep("b", 8, &b));
        assert!(!cluster.wake(9));
        assert!(is_woken(&a) && !is_woken(&b));
        // The number says nothing about which is later.
        cluster.saw(3);
        assert!(!cluster.wake(9) && is_woken(&b));
    }

    #[test]
    fn a_server_that_does_not_answer_wakes_everybody_a_few_at_a_time() {
        let cluster = cluster();
        cluster.saw(7);
        let wakes: Vec<_> = (0..5).map(|_| Wake::new()).collect();
        for (n, wake) in wakes.iter().enumerate() {
            assert!(cluster.sleep(&n.to_string(), 7, wake));
        }
        cluster.blind();
        assert!(!cluster.sleep("late", 7, &Wake::new()));
        assert!(cluster.wake(2) && cluster.wake(2) && !cluster.wake(2));
        assert_eq!(wakes.iter().filter(|wake| is_woken(wake)).count(), 5);
    }
}
