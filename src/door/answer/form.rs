//! Problem documents as forms: what is the same in every answer of a kind is put together once on each worker.
//!
//! In a flash sale nearly all answers are the same few refusals. Of such an answer only the date, the request's id and the
//! numbers of the limits differ; the rest is two pieces, copied. Kinds are known by where their texts stand, which are
//! constants of the program, so a worker's forms are few.

use std::borrow::Cow;
use std::cell::RefCell;

use http::StatusCode;
use tidegate_filters::engine::{Problem, Reply, ReplyBody};

use super::{Framed, date, status_line};
use crate::proxy::h1::line;
use crate::proxy::reply::{Addressee, BEHIND_ID, document, said_headers};

/// Forms of a worker; beyond, answers are put together from their parts.
const MOST_FORMS: usize = 64;

thread_local! {
    static FORMS: RefCell<Vec<Form>> = const { RefCell::new(Vec::new()) };
}

struct Form {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    /// Up to the value of `X-Request-Id`, the last line of it.
    head: Vec<u8>,
    /// Up to the request's id.
    body: Vec<u8>,
}

impl Form {
    fn new(status: StatusCode, problem: &Problem, title: &'static str, to: &Addressee<'_>) -> Self {
        let mut body = document(problem, status.as_u16(), to.request_id);
        let mut head = Vec::new();
        status_line(&mut head, status);
        line(&mut head, b"content-type", b"application/problem+json");
        line(&mut head, b"content-length", itoa::Buffer::new().format(body.len()).as_bytes());
        head.extend_from_slice(b"x-request-id: ");
        body.truncate(body.len() - BEHIND_ID.len() - to.request_id.as_bytes().len());
        Self { status, code: problem.code, title, head, body }
    }

    fn is_of(&self, status: StatusCode, code: &str, title: &str) -> bool {
        self.status == status && std::ptr::eq(self.code, code) && std::ptr::eq(self.title, title)
    }

    fn fill(&self, out: &mut Vec<u8>, reply: &Reply, to: &Addressee<'_>, framed: Framed) {
        let id = to.request_id.as_bytes();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\n");
        date(out, framed.unix);
        said_headers(reply, to, out);
        framed.end_head(out);
        if !framed.bodiless {
            out.extend_from_slice(&self.body);
            out.extend_from_slice(id);
            out.extend_from_slice(BEHIND_ID);
        }
    }
}

/// Writes the whole answer if there is a form for it; false: nothing was written.
pub(super) fn fill(out: &mut Vec<u8>, reply: &Reply, to: &Addressee<'_>, framed: Framed) -> bool {
    let ReplyBody::Problem(problem) = &reply.body else { return false };
    let Cow::Borrowed(title) = problem.title else { return false };
    if to.person || !problem.members.is_empty() {
        return false;
    }
    FORMS.with_borrow_mut(|forms| {
        let known = forms.iter().position(|form| form.is_of(reply.status, problem.code, title));
        let at = match known {
            Some(at) => at,
            None if forms.len() < MOST_FORMS => {
                forms.push(Form::new(reply.status, problem, title, to));
                forms.len() - 1
            }
            None => return false,
        };
        // The one that is asked for most is found first.
        let (here, before) = (at, at / 2);
        forms.swap(here, before);
        forms[before].fill(out, reply, to, framed);
        true
    })
}
