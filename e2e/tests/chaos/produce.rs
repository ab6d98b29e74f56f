//! Producers: over HTTP, by any dispatcher, and remember what was acknowledged.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tidemill_e2e::api::Client;
use tokio::{task::JoinSet, time::interval};

use crate::fleet::QUEUE;

/// Jobs of one request.
const JOBS: i32 = 4;
/// Between two requests of one producer.
const PACE: Duration = Duration::from_millis(100);

pub(crate) struct Producers {
    stop: Arc<AtomicBool>,
    ids: Arc<Mutex<Vec<i64>>>,
    tasks: JoinSet<()>,
}

impl Producers {
    pub(crate) fn start(dispatchers: &[SocketAddr; 2]) -> Producers {
        let mut producers = Producers { stop: Arc::default(), ids: Arc::default(), tasks: JoinSet::new() };
        for dispatcher in dispatchers {
            let client = Client::new(*dispatcher);
            let (stop, ids) = (Arc::clone(&producers.stop), Arc::clone(&producers.ids));
            producers.tasks.spawn(async move {
                let mut pace = interval(PACE);
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    // Without an acknowledgement the jobs may exist or not.
                    let Ok(more) = client.insert(QUEUE, (0..JOBS).map(|n| json!({ "n": n }))).await else {
                        continue;
                    };
                    let more = more.iter().map(|id| id.parse::<i64>().expect("ids are numbers"));
                    ids.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
                }
            });
        }
        producers
    }

    /// The ids of all jobs that were acknowledged.
    pub(crate) async fn stop(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a producer does not panic");
        }
        std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
