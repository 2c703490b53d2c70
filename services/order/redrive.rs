//! Asking for a payment once more, whatever we hold it for: when a channel's bill has it and our books do not.
//!
//! The channel is asked under our number, as the resolver does it, and what it says is taken in as a notification would
//! have been. Nothing is believed from whoever asked for this.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;

use super::desk::Desk;
use super::model::Payment;
use super::{resolver, view};
use crate::reconciliation::Redrive;
use crate::support::Problem;

/// `POST /admin/payments/{payment_no}/resolve`: answers the payment as it stands then.
pub(super) async fn handle(State(desk): State<Arc<Desk>>, Path(payment_no): Path<String>) -> Result<Response, Problem> {
    let payment = redrive(&desk, &payment_no).await?;
    Ok(axum::Json(view::payment(&payment)).into_response())
}

async fn redrive(desk: &Arc<Desk>, payment_no: &str) -> Result<Payment, Problem> {
    let payment = desk.payment(payment_no).await?;
    resolver::resolve(Arc::clone(desk), payment).await;
    desk.payment(payment_no).await
}

/// The same within this process.
pub(super) struct Here(pub(super) Arc<Desk>);

impl Redrive for Here {
    fn redrive(&self, out_trade_no: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let payment = redrive(&self.0, &out_trade_no).await.map_err(|problem| problem.detail)?;
            Ok(payment.status.as_str().to_owned())
        })
    }
}
