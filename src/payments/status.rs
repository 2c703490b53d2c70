//! `GET /.tidegate/payments/{id}`: how a payment stands, for the service that made it.
//!
//! Answered on the listeners whose routes lead to the payment's upstream and nowhere else: whoever may pay there may ask.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_filters::engine::{Decision, Reply, RequestHead, Resume, Verdict, Wait};

use super::answer;
use super::engine::Payments;
use super::plan::Plan;
use crate::config::Config;
use crate::snapshot::Route;

/// Longest time for a look into the journal.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// The status resources of a configuration.
#[derive(Default)]
pub(crate) struct StatusPaths(Box<[(usize, Arc<Plan>)]>);

impl StatusPaths {
    /// Of a configuration's routes.
    pub(crate) fn new(config: &Config, routes: &[Arc<Route>]) -> Self {
        let listener = |name: &str| config.server.listeners.iter().position(|listener| listener.name == name);
        let mut paths: Vec<(usize, Arc<Plan>)> = Vec::new();
        for (spec, route) in config.routes.iter().zip(routes) {
            let plan = route.upstream.plan.as_ref().filter(|plan| plan.journal && plan.spec.is_some());
            if let (Some(listener), Some(plan)) = (listener(&spec.listener), plan)
                && !paths.iter().any(|(at, other)| *at == listener && Arc::ptr_eq(other, plan))
            {
                paths.push((listener, plan.clone()));
            }
        }
        Self(paths.into())
    }

    /// The answer to a request for a status resource; `None` for any other request.
    pub(crate) fn decide(&self, payments: &Payments, listener: usize, head: &RequestHead<'_>) -> Option<Decision> {
        let plans = || self.0.iter().filter(|(at, _)| *at == listener).map(|(_, plan)| plan);
        let under = |plan: &&Arc<Plan>| plan.spec.as_ref().is_some_and(|spec| head.path.starts_with(&*spec.location));
        let location = plans().find(under)?.spec.as_ref()?.location.len();
        let id = head.path[location..].to_owned();
        if !matches!(head.method, "GET" | "HEAD") {
            let title = "A payment's state is only read";
            let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title);
            let get = http::HeaderValue::from_static("GET, HEAD");
            return Some(Decision::Respond(Box::new(reply.header(http::header::ALLOW, get))));
        }
        // Several upstreams may share a path; a number is one payment's.
        let here: Vec<Arc<Plan>> = plans().filter(under).cloned().collect();
        let journal = payments.engine().and_then(|engine| engine.journal())?;
        let until = Box::pin(async move {
            let reply = match journal.view(&id).await {
                Ok(Some(view)) => {
                    let plan = here.iter().find(|plan| *plan.upstream == *view.payment.frozen.upstream);
                    plan.map_or_else(unknown, |_| answer::json_reply(StatusCode::OK, &answer::state(&view)))
                }
                Ok(None) => unknown(),
                Err(_) => answer::unreadable(),
            };
            Resume { verdict: Verdict::Respond(Box::new(reply)), permit: None }
        });
        let late = Box::new(answer::unreadable());
        Some(Decision::Wait(Box::new(Wait { reason: "journal", max: LONGEST_LOOK, late, until, shadow: false })))
    }
}

fn unknown() -> Reply {
    Reply::problem(StatusCode::NOT_FOUND, "payment-unknown", "No payment has this number")
}
