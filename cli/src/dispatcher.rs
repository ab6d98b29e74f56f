//! Which dispatcher a command asks, and how: over its HTTP API, like any other client.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::header::CONTENT_TYPE;
use serde::{Serialize, de::DeserializeOwned};
use tidemill_common::{
    api::Problem,
    db::Session,
    id::QueueName,
    queue::dispatch::{self, Owner},
};

use crate::{
    connect::Database,
    error::CliError,
    queue::{Kind, must_exist},
};

/// How long an answer may take: it waits for a commit.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Dispatcher {
    /// Ask this dispatcher; without it the queue's owner, at the address it gave the database
    #[arg(long, value_name = "URL")]
    dispatcher: Option<String>,
    /// The file with the bearer token, if dispatchers want one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
}

impl Dispatcher {
    /// One POST about a job queue; what was answered.
    pub(crate) async fn post<A: DeserializeOwned>(
        &self,
        queue: &QueueName,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, CliError> {
        let base = match &self.dispatcher {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => owner(&mut self.database.session().await?, queue).await?,
        };
        let url = format!("{base}/v1/queues/{queue}{path}");
        let failed = |source: reqwest::Error| CliError::Ask(base.clone(), source.without_url());
        // reqwest comes without cryptography of its own; an `Err` means that there is some.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(failed)?;
        let mut request = client.post(&url).header(CONTENT_TYPE, "application/json");
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file)
                .map_err(|error| CliError::Usage(format!("The token in {}: {error}.", file.display())))?;
            request = request.bearer_auth(token.trim());
        }
        let body = serde_json::to_vec(body).expect("the types of the contract can be written as JSON");
        let response = request.body(body).send().await.map_err(failed)?;
        let is_good = response.status().is_success();
        let answer = response.bytes().await.map_err(failed)?;
        if is_good {
            return serde_json::from_slice(&answer).map_err(|_| strange(&base));
        }
        let problem: Problem = serde_json::from_slice(&answer).map_err(|_| strange(&base))?;
        Err(CliError::Refused(format!("{}: {}.", problem.title, problem.detail)))
    }
}

fn strange(base: &str) -> CliError {
    CliError::Refused(format!("{base} answered, but is no dispatcher."))
}

/// Where the queue's owner is.
async fn owner(session: &mut Session, name: &QueueName) -> Result<String, CliError> {
    if must_exist(session, name).await? != Kind::Jobs {
        return Err(CliError::Refused(format!("{name} is not a job queue.")));
    }
    let queues = dispatch::queues(session).await?;
    let owner = queues.into_iter().find(|queue| queue.name == name.as_ref()).map(|queue| queue.owner);
    match owner {
        Some(Owner { address: Some(address), left_ms, .. }) if left_ms > 0 => Ok(address),
        Some(_) | None => Err(CliError::Refused(format!(
            "Queue {name} has no owner now: is a dispatcher running? Nothing was done."
        ))),
    }
}
