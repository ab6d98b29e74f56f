//! Group: the items of one request may belong to several queues and owners; each owner is asked once, and the answers
//! come back in the request's order.

use std::collections::HashMap;

use tidemill_common::db::{DbError, Session, Type};

use super::auth::{Caller, Scope};
use super::forward::Passport;
use super::state::ApiState;
use crate::command::{NamedLease, QueueHandle};
use crate::routes::{Owner, Route};
use tidemill_common::error_chain;

/// Where an item goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// To this process's server of the queue.
    Here(i32),
    /// To another dispatcher.
    There(String),
    /// Nowhere at this moment.
    Nobody,
    /// No such lease can be live.
    Stale,
}

/// The items of a request, by place.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Indices of the items, in their order.
    pub(super) places: Vec<(Place, Vec<usize>)>,
    handles: HashMap<i32, QueueHandle>,
}

impl Groups {
    /// Finds the place of each lease.
    pub(super) async fn of(
        state: &ApiState,
        caller: &Caller,
        passport: &Passport,
        leases: &[NamedLease],
    ) -> Self {
        let mut routes: HashMap<i32, Option<Route>> = HashMap::new();
        for lease in leases.iter().flatten() {
            routes.entry(lease.queue_id).or_insert_with(|| state.routes.find_id(lease.queue_id));
        }
        let strange: Vec<i32> =
            routes.iter().filter(|(_, route)| route.is_none()).map(|(id, _)| *id).collect();
        let unseen = if strange.is_empty() { Vec::new() } else { unseen(state, strange).await };
        let mut handles = HashMap::new();
        let places: HashMap<i32, Place> = routes
            .into_iter()
            .map(|(queue_id, route)| {
                let Some(route) = route else {
                    let place = if unseen.contains(&queue_id) { Place::Nobody } else { Place::Stale };
                    return (queue_id, place);
                };
                // A lease of a queue that is not the caller's is as good as forged.
                if !caller.may(Scope::Work, &route.seen.borrow().queue.name) {
                    return (queue_id, Place::Stale);
                }
                let place = match route.owner(state.me) {
                    Owner::Here => {
                        handles.insert(queue_id, route.handle);
                        Place::Here(queue_id)
                    }
                    Owner::There(address) if !passport.forwarded => Place::There(address),
                    Owner::There(_) | Owner::Nobody => Place::Nobody,
                };
                (queue_id, place)
            })
            .collect();
        let place = |lease: &NamedLease| {
            lease.as_ref().and_then(|lease| places.get(&lease.queue_id)).cloned().unwrap_or(Place::Stale)
        };
        Self { places: by_place(leases.iter().map(place)), handles }
    }

    /// The server of a queue that is [`Place::Here`].
    pub(super) fn handle(&self, queue_id: i32) -> Option<&QueueHandle> {
        self.handles.get(&queue_id)
    }
}

/// Queues that nobody here has heard of: those which exist all the same are new, and their leases may be live. If the
/// database does not tell, they all may.
async fn unseen(state: &ApiState, strange: Vec<i32>) -> Vec<i32> {
    let Ok(mut session) = state.pool.session().await else { return strange };
    match existing(&mut session, &strange).await {
        Ok(existing) => existing,
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "the queues of unknown leases could not be looked up"
            );
            strange
        }
    }
}

async fn existing(session: &mut Session, queue_ids: &[i32]) -> Result<Vec<i32>, DbError> {
    let op = "look for queues of leases";
    let sql = "select o_queue_id from tidemill.dispatch_queues() where o_queue_id = any ($1)";
    let rows = session.query(op, sql, &[(&queue_ids, Type::INT4_ARRAY)]).await?;
    let database = session.database();
    rows.iter().map(|row| row.try_get(0).map_err(|error| DbError::decode(op, &database, error))).collect()
}

/// Indices by place, places in the order in which they first occur.
fn by_place(places: impl Iterator<Item = Place>) -> Vec<(Place, Vec<usize>)> {
    let mut groups: Vec<(Place, Vec<usize>)> = Vec::new();
    let mut known: HashMap<Place, usize> = HashMap::new();
    for (index, place) in places.enumerate() {
        let group = *known.entry(place.clone()).or_insert_with(|| {
            groups.push((place, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, indices)) = groups.get_mut(group) {
            indices.push(index);
        }
    }
    groups
}

/// The answers in the request's order. An owner that gave too few answers owes the rest: `missing`.
pub(super) fn merge<T: Clone>(count: usize, groups: Vec<(Vec<usize>, Vec<T>)>, missing: &T) -> Vec<T> {
    let mut merged = vec![missing.clone(); count];
    for (indices, answers) in groups {
        for (index, answer) in indices.into_iter().zip(answers) {
            if let Some(place) = merged.get_mut(index) {
                *place = answer;
            }
        }
    }
    merged
}

/// The items at these indices.
pub(super) fn pick<T: Clone>(items: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().filter_map(|index| items.get(*index).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![
            (0..3).prop_map(Place::Here),
            (0..2).prop_map(|n| Place::There(format!("http://{n}"))),
            Just(Place::Nobody),
            Just(Place::Stale),
        ]
    }

    proptest! {
        /// Every item is asked once, where it belongs, and gets its own answer back.
        #[test]
        fn nothing_is_lost_or_mixed_up(places in prop::collection::vec(place(), 0..40)) {
            let groups = by_place(places.iter().cloned());
            let answered = groups
                .iter()
                .map(|(place, indices)| {
                    (indices.clone(), indices.iter().map(|index| Some((place.clone(), *index))).collect())
                })
                .collect();
            let merged = merge(places.len(), answered, &None);
            let expected: Vec<_> = places.into_iter().enumerate().map(|(n, place)| Some((place, n))).collect();
            prop_assert_eq!(merged, expected);
        }
    }

    #[test]
    fn an_owner_that_answers_too_little_owes_the_rest() {
        assert_eq!(
            merge(4, vec![(vec![3, 1], vec!['a']), (vec![0], vec!['b', 'c'])], &'-'),
            ['b', '-', '-', 'a']
        );
    }
}
