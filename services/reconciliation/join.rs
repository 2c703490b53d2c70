//! The join: three sorted streams (the bill, our books, what the run before left) become one group per number.
//!
//! Memory holds one group at a time.

use std::iter::Peekable;

use super::RunError;
use super::bill::{BillError, Entry, Kind};
use super::judge::{Group, Judge};
use super::model::{Carried, Item};
use super::ours::{OurPayment, Ours, OursError};

/// Joins until all streams have ended. `each_of_ours` sees every row of ours that came by itself.
pub(super) fn join<O: Ours>(
    bill: impl Iterator<Item = Result<Entry, BillError>>,
    ours: O,
    carried: Vec<Carried>,
    judge: &mut Judge,
    mut each_of_ours: impl FnMut(&OurPayment),
    tell: &mut dyn FnMut(Item),
) -> Result<(), RunError> {
    let mut bill = bill.peekable();
    let mut ours = Books { books: ours, next: None };
    let mut carried = carried.into_iter().peekable();
    ours.advance()?;
    while let Some(out_trade_no) = least(&mut bill, &ours, &mut carried)? {
        let mut group = Group { out_trade_no, ..Group::default() };
        while let Some(entry) =
            bill.next_if(|entry| matches!(entry, Ok(entry) if entry.out_trade_no == group.out_trade_no))
        {
            let entry = entry?;
            match entry.kind {
                Kind::Payment => group.payments.push(entry),
                Kind::Refund => group.refunds.push(entry),
            }
        }
        while let Some(one) = carried.next_if(|one| one.out_trade_no == group.out_trade_no) {
            group.carried.push(one);
        }
        group.ours = match ours.next.take_if(|next| next.out_trade_no == group.out_trade_no) {
            Some(payment) => {
                each_of_ours(&payment);
                ours.advance()?;
                Some(payment)
            }
            // Booked at another time.
            None => ours.books.look_up(&group.out_trade_no)?,
        };
        judge.judge(group, tell);
    }
    Ok(())
}

/// Our books with the next row in hand.
struct Books<O> {
    books: O,
    next: Option<OurPayment>,
}

impl<O: Ours> Books<O> {
    fn advance(&mut self) -> Result<(), RunError> {
        let next = self.books.next().transpose()?;
        if let (Some(before), Some(next)) = (&self.next, &next)
            && before.out_trade_no >= next.out_trade_no
        {
            return Err(RunError::Ours(OursError("the payments are not in the order of their numbers".to_owned())));
        }
        self.next = next;
        Ok(())
    }
}

/// The least number that any stream has next.
fn least<O>(
    bill: &mut Peekable<impl Iterator<Item = Result<Entry, BillError>>>,
    ours: &Books<O>,
    carried: &mut Peekable<std::vec::IntoIter<Carried>>,
) -> Result<Option<String>, RunError> {
    let from_bill = match bill.next_if(Result::is_err) {
        Some(Err(error)) => return Err(error.into()),
        _ => bill.peek().and_then(|entry| entry.as_ref().ok()).map(|entry| entry.out_trade_no.as_str()),
    };
    let from_ours = ours.next.as_ref().map(|payment| payment.out_trade_no.as_str());
    let from_carried = carried.peek().map(|one| one.out_trade_no.as_str());
    Ok([from_bill, from_ours, from_carried].into_iter().flatten().min().map(str::to_owned))
}
