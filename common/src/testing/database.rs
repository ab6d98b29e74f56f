//! A database per test, cloned from a template that has the schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::cluster::Cluster;
use crate::db::{Session, Target};
use crate::schema;

const TEMPLATE: &str = "tidemill_template";

/// A database of a test's own; dropped when this value is.
#[derive(Debug)]
pub struct TestDb {
    target: Arc<Target>,
    url: String,
    tcp_url: String,
    /// The same server's database `postgres`, from which this one is made and dropped.
    admin: Arc<Target>,
}

impl Cluster {
    /// A new database with the schema in it.
    ///
    /// # Panics
    /// If the server does not do it.
    pub async fn database(&self) -> TestDb {
        let made = self.template.get_or_try_init(|| async {
            let mut session = admin(&self.target("postgres"));
            session.execute("make the template", &format!("create database {TEMPLATE}"), &[]).await?;
            let mut session = admin(&self.target(TEMPLATE));
            schema::install(&mut session, &schema::InstallOptions::default()).await.map(drop)
        });
        made.await.unwrap_or_else(|error: schema::SchemaError| panic!("{}", crate::error_chain(&error)));
        self.create(Some(TEMPLATE)).await
    }

    /// A new database with nothing in it.
    ///
    /// # Panics
    /// If the server does not do it.
    pub async fn empty_database(&self) -> TestDb {
        self.create(None).await
    }

    async fn create(&self, template: Option<&str>) -> TestDb {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let template = template.map(|template| format!(" template {template}")).unwrap_or_default();
        let mut session = admin(&self.target("postgres"));
        let sql = format!("create database {name}{template}");
        let created = session.execute("make a test's database", &sql, &[]).await;
        created.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
        TestDb {
            target: self.target(&name),
            url: self.url(&name),
            tcp_url: self.tcp_url(&name),
            admin: self.target("postgres"),
        }
    }
}

fn admin(target: &Arc<Target>) -> Session {
    Session::new(Arc::clone(target), "tidemill-test").with_deadline(Duration::from_secs(60))
}

impl TestDb {
    /// Its name, in the configuration and on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        self.target.name()
    }

    /// How to reach it.
    #[must_use]
    pub fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    /// URL over the Unix socket, for a configuration file.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// URL over TCP on loopback.
    #[must_use]
    pub fn tcp_url(&self) -> &str {
        &self.tcp_url
    }

    /// A session, not connected yet.
    #[must_use]
    pub fn session(&self, application: &str) -> Session {
        Session::new(self.target(), application)
    }

    /// A plain client of the driver, connected as superuser.
    ///
    /// # Panics
    /// If the server does not accept it.
    pub async fn client(&self) -> Client {
        let connected = tokio_postgres::connect(&self.url, NoTls).await;
        let (client, connection) = connected.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
        #[expect(clippy::disallowed_methods, reason = "ends with its client")]
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %crate::error_chain(&error), "a test's connection ended");
            }
        });
        client
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (target, name) = (Arc::clone(&self.admin), self.name().to_owned());
        // Dropping needs waiting, and a destructor cannot wait in the test's runtime. Nobody waits for the
        // thread either: the cluster takes with it what is left.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let mut session = admin(&target);
            let sql = format!("drop database if exists {name} with (force)");
            let dropped = runtime.block_on(session.execute("drop a test's database", &sql, &[]));
            if let Err(error) = dropped {
                tracing::debug!(error = %crate::error_chain(&error), "a test's database stays");
            }
        });
    }
}
