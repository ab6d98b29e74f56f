//! Which queue goes where.

use tidemill_common::config::{Route, matches};
use tidemill_common::id::{InvalidName, QueueName};

/// Routes in the order of the settings.
#[derive(Debug, Clone)]
pub struct Routes(Vec<(String, Target)>);

#[derive(Debug, Clone)]
enum Target {
    SameName,
    Queue(QueueName),
}

impl Routes {
    /// Routes as the settings give them.
    ///
    /// # Errors
    /// If a destination is neither `*` nor a queue name.
    pub fn new(routes: &[Route]) -> Result<Self, InvalidName> {
        let parsed = routes.iter().map(|Route { from, to }| {
            let target = if to == "*" { Target::SameName } else { Target::Queue(to.parse()?) };
            Ok((from.clone(), target))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Where a queue goes: the first route that matches counts; none, and it stays where it is.
    #[must_use]
    pub fn target(&self, queue: &QueueName) -> Option<QueueName> {
        let (_, target) = self.0.iter().find(|(from, _)| matches(from, queue.as_str()))?;
        Some(match target {
            Target::SameName => queue.clone(),
            Target::Queue(name) => name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_matches_counts() {
        let route = |(from, to): (&str, &str)| Route { from: from.to_owned(), to: to.to_owned() };
        let routes = [("ledger", "ledger"), ("mail.*", "mail"), ("eu.*", "*")].map(route);
        let routes = Routes::new(&routes).unwrap();
        let target = |queue: &str| routes.target(&queue.parse().unwrap()).map(String::from);
        assert_eq!(target("ledger").as_deref(), Some("ledger"));
        assert_eq!(target("mail.de").as_deref(), Some("mail"));
        assert_eq!(target("eu.orders").as_deref(), Some("eu.orders"));
        assert_eq!(target("other"), None);
        assert!(Routes::new(&[route(("a", "no queue"))]).is_err());
    }
}
