//! A PostgreSQL of the demonstration's own: durable, in a temporary place, gone afterwards unless it is to be kept.

use std::{path::PathBuf, process, sync::Arc};

use anyhow::{Context, Result, ensure};
use tidemill_common::{
    db::{Session, Target, Type},
    testing::{Cluster, ClusterOptions},
};
use tokio::process::Command;

use super::sources::{JOBS, session};

pub(super) struct Server {
    cluster: Cluster,
    admin: Session,
    version: String,
}

impl Server {
    /// Makes and starts it with room for `connections`.
    pub(super) async fn start(connections: u32, keep: bool) -> Result<Server> {
        let name = format!("tidemill-demo-pg-{}-{:08x}", process::id(), rand::random::<u32>());
        let options = ClusterOptions {
            durable: true,
            // On disk, so that "durable" means what it says: the default is memory where there is some.
            directory: Some(std::env::temp_dir().join(name)),
            keep,
            settings: vec![("max_connections".to_owned(), connections.to_string())],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start_new(&options).context("start PostgreSQL")?;
        let mut admin = session(&cluster.target("postgres"));
        let row =
            admin.query_one("ask for the version", "select current_setting('server_version')", &[]).await?;
        Ok(Server { admin, version: row.get(0), cluster })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.cluster.directory().to_owned()
    }

    pub(super) fn target(&self, database: &str) -> Arc<Target> {
        self.cluster.target(database)
    }

    pub(super) fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// The real pgbench, told how to connect.
    pub(super) fn pgbench(&self) -> Command {
        let mut command = self.cluster.command("pgbench");
        command.arg("--host").arg(self.cluster.directory());
        command.args(["--port", &self.cluster.port().to_string(), "--username", "postgres"]);
        Command::from(command)
    }

    /// Terminates the connections of an application (its name, alone or before a slash), to one database or to all.
    /// Returns how many.
    pub(super) async fn terminate(&mut self, application: &str, database: Option<&str>) -> Result<i64> {
        const TERMINATE: &str = "
            select count(*) filter (where pg_terminate_backend(pid))
              from pg_stat_activity
             where (application_name = $1 or starts_with(application_name, $1 || '/'))
               and ($2::text is null or datname = $2)";
        let parameters: [(&(dyn tidemill_common::db::ToSql + Sync), Type); 2] =
            [(&application, Type::TEXT), (&database, Type::TEXT)];
        Ok(self.admin.query_one("terminate connections", TERMINATE, &parameters).await?.get(0))
    }

    /// Leaves it running for whoever wants to look, and says how.
    pub(super) fn leave(self) -> Result<String> {
        let folder = self.folder();
        let (folder, data, port) = (folder.display(), self.cluster.data(), self.cluster.port());
        let mut start = self.cluster.command("pg_ctl");
        start.args(["start", "--wait", "--silent", "--pgdata"]).arg(&data);
        start.arg("--log").arg(self.cluster.log_file()).arg("--options").arg(format!("-p {port}"));
        let stop = self.cluster.command("pg_ctl");
        let stop = format!("{} stop --pgdata {}", stop.get_program().to_string_lossy(), data.display());
        // Its files are kept, but the server that ends with us ends; another one takes its place.
        drop(self.cluster);
        let status = start.status().context("start pg_ctl")?;
        ensure!(status.success(), "PostgreSQL did not start again ({status}): see server.log in {folder}.");
        Ok(format!(
            "PostgreSQL is kept: `psql --host {folder} --port {port} --username postgres {JOBS}` connects, \
             `{stop}` stops it (as the user that owns {folder}); then remove {folder}."
        ))
    }
}
