//! The interface to runs: for services of the machine and for operators, served by the order process.
//!
//! Bills lie in one folder, and only there: a request names a file in it.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::day::Day;
use super::model::{Category, Channel};
use super::repair::{Redrive, repair};
use super::report::COLUMNS;
use super::run::{Job, Rules, Runs};
use super::store::{self, Stored};
use super::{RunError, daily};
use crate::support::{Problem, unix_ms};

/// Name of the folder for bills inside the data folder.
const BILLS: &str = "bills";

/// Items in one answer.
const PAGE: u32 = 200;

/// Longest resolution in bytes.
const MAX_RESOLUTION: usize = 1_000;

/// Runs that are remembered as failed; a run that is asked for again is forgotten first.
const MAX_FAILED: usize = 100;

/// What is held to answer requests.
pub struct Desk {
    runs: Runs,
    bills: PathBuf,
    redrive: Arc<dyn Redrive>,
    /// Runs under way (without a text) and runs that failed (with the reason), by id.
    open: Mutex<HashMap<String, Option<String>>>,
}

impl Desk {
    /// Serves the runs of a data folder; `redrive` is asked when somebody wants repairs.
    pub fn new(runs: Runs, data_dir: &FilePath, redrive: Arc<dyn Redrive>) -> Arc<Self> {
        Arc::new(Self { runs, bills: data_dir.join(BILLS), redrive, open: Mutex::default() })
    }

    async fn work(&self, id: String, job: Job, apply: bool) {
        let done = async {
            self.runs.run(job).await?;
            if apply {
                let repaired = repair(&self.runs, &id, &*self.redrive).await?;
                tracing::info!(id, ?repaired, "differences were repaired");
            }
            Ok::<(), RunError>(())
        };
        let failure = done.await.err().map(|error| error.to_string());
        if let Some(why) = &failure {
            tracing::error!(id, why, "a reconciliation did not come to its end");
        }
        let mut open = self.open.lock();
        open.remove(&id);
        if failure.is_some() && open.len() < MAX_FAILED {
            open.insert(id, failure);
        }
    }
}

type Held = State<Arc<Desk>>;
type Answer = Result<Response, Problem>;

/// All routes.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/reconciliations", post(begin))
        .route("/v1/reconciliations/{id}", get(show))
        .route("/v1/reconciliations/{id}/items", get(items))
        .route("/v1/reconciliations/{id}/items/{n}/resolve", post(resolve))
        .with_state(desk)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginRequest {
    channel: String,
    date: String,
    /// A file in the folder of bills; absent takes the usual name.
    bill: Option<String>,
    /// Agreed fee in hundredths of a percent; absent leaves fees alone.
    fee_basis_points: Option<u32>,
    /// Repair what can be repaired.
    #[serde(default)]
    apply: bool,
}

/// 202 with the place to look at; the run goes on. The same bill for the same day is the same run.
async fn begin(State(desk): Held, body: Bytes) -> Answer {
    let request: BeginRequest = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let channel: Channel = request.channel.parse().map_err(Problem::invalid)?;
    let day: Day = request.date.parse().map_err(Problem::invalid)?;
    let bill = match &request.bill {
        Some(name) if FilePath::new(name).file_name().is_none_or(|file| file != name.as_str()) => {
            return Err(Problem::invalid("bill must be the name of a file in the folder of bills"));
        }
        Some(name) => desk.bills.join(name),
        None => daily::find_bill(&desk.bills, channel, day).ok_or_else(no_bill)?,
    };
    let rules = Rules { fee_basis_points: request.fee_basis_points, ..Rules::default() };
    let job = Job { channel, day, bill, rules };
    let id = desk.runs.id(&job).await.map_err(|_| no_bill())?;
    let started = {
        let mut open = desk.open.lock();
        let running = matches!(open.get(&id), Some(None));
        if !running {
            open.insert(id.clone(), None);
        }
        !running
    };
    if started {
        let (desk, id) = (Arc::clone(&desk), id.clone());
        tokio::spawn(async move { desk.work(id, job, request.apply).await });
    }
    let location = [(header::LOCATION, format!("/v1/reconciliations/{id}"))];
    let body = json!({ "id": id, "status": "RUNNING" });
    Ok((StatusCode::ACCEPTED, location, axum::Json(body)).into_response())
}

fn no_bill() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NO_BILL", "There is no such bill in the folder of bills.")
}

fn no_run() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "UNKNOWN_RUN", "There is no such reconciliation.")
}

async fn show(State(desk): Held, Path(id): Path<String>) -> Answer {
    let open = desk.open.lock().get(&id).cloned();
    match open {
        Some(None) => return Ok(axum::Json(json!({ "id": id, "status": "RUNNING" })).into_response()),
        Some(Some(why)) => {
            return Ok(axum::Json(json!({ "id": id, "status": "FAILED", "error": why })).into_response());
        }
        None => {}
    }
    let report = report(&desk, &id).await?;
    Ok(axum::Json(json!({ "id": id, "status": "DONE", "report": report })).into_response())
}

async fn report(desk: &Desk, id: &str) -> Result<Value, Problem> {
    let id = id.to_owned();
    let report = desk.runs.store.read(move |connection| store::report(connection, &id)).await?;
    serde_json::from_str(&report.ok_or_else(no_run)?).map_err(|_| Problem::internal())
}

#[derive(Deserialize)]
struct ItemsRequest {
    category: Option<String>,
    cursor: Option<i64>,
}

async fn items(State(desk): Held, Path(id): Path<String>, Query(request): Query<ItemsRequest>) -> Answer {
    let category = match &request.category {
        None => None,
        Some(word) => Some(Category::parse(word).ok_or_else(|| Problem::invalid("there is no such category"))?),
    };
    report(&desk, &id).await?;
    let after = request.cursor.unwrap_or(0);
    let page = desk.runs.store.read(move |connection| store::items(connection, &id, category, after, PAGE)).await?;
    let next = page.last().filter(|_| page.len() == PAGE as usize).map(|item| item.n);
    let items: Vec<Value> = page.iter().map(view).collect();
    Ok(axum::Json(json!({ "items": items, "next_cursor": next })).into_response())
}

fn view(item: &Stored) -> Value {
    let amount = |field: &str| field.parse::<i64>().map_or(Value::Null, Value::from);
    let mut view = json!({ "n": item.n, "outcome": item.outcome, "resolution": item.resolution });
    for (name, field) in COLUMNS[1..].iter().zip(&item.fields) {
        view[*name] = if name.ends_with("amount") { amount(field) } else { field.as_str().into() };
    }
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveRequest {
    /// Why nothing is left to be done.
    resolution: String,
}

async fn resolve(State(desk): Held, Path((id, n)): Path<(String, i64)>, body: Bytes) -> Answer {
    let request: ResolveRequest = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    if request.resolution.is_empty() || request.resolution.len() > MAX_RESOLUTION {
        return Err(Problem::invalid(format!("resolution must be 1 to {MAX_RESOLUTION} bytes")));
    }
    let now_ms = unix_ms();
    let written =
        desk.runs.store.write(move |connection| store::resolve(connection, &id, n, &request.resolution, now_ms));
    let resolution = written.await.map_err(|error| match error {
        tidegate_durable::WriteError::Op(error) => Problem::from(tidegate_durable::StoreError::from(error)),
        tidegate_durable::WriteError::Store(error) => error.into(),
    })?;
    let resolution =
        resolution.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "UNKNOWN_ITEM", "There is no such item."))?;
    Ok(axum::Json(json!({ "n": n, "resolution": resolution })).into_response())
}
