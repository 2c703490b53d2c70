//! The shapes of conditions that need no interpreter.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};

use crate::engine::{IdentityId, RequestContext, RequestHead};

/// A text of the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    Identity(IdentityId),
    Method,
    Path,
    Header(String),
}

/// A comparison, or several joined. `None` as a result is CEL's error: something was absent.
#[derive(Debug)]
pub(super) enum Test {
    OneOf(Text, Box<[String]>),
    StartsWith(Text, String),
    Not(Box<Test>),
    All(Box<[Test; 2]>),
    Any(Box<[Test; 2]>),
}

impl Text {
    fn read<'r>(&self, head: &'r RequestHead<'_>, cx: &'r RequestContext) -> Option<&'r str> {
        match self {
            Self::Identity(id) => cx.identity(*id)?.text.as_deref(),
            Self::Method => Some(head.method),
            Self::Path => Some(head.path),
            Self::Header(name) => head.header_str(name),
        }
    }
}

impl Test {
    pub(super) fn run(&self, head: &RequestHead<'_>, cx: &RequestContext) -> Option<bool> {
        match self {
            Self::OneOf(text, values) => text.read(head, cx).map(|text| values.iter().any(|v| v == text)),
            Self::StartsWith(text, start) => text.read(head, cx).map(|text| text.starts_with(start)),
            Self::Not(test) => test.run(head, cx).map(|holds| !holds),
            Self::All(both) => join(both, head, cx, false),
            Self::Any(both) => join(both, head, cx, true),
        }
    }
}

/// `settling` on either side decides; otherwise an error on either side is the result.
fn join(both: &[Test; 2], head: &RequestHead<'_>, cx: &RequestContext, settling: bool) -> Option<bool> {
    let first = both[0].run(head, cx);
    if first == Some(settling) {
        return first;
    }
    match (first, both[1].run(head, cx)) {
        (_, Some(second)) if second == settling => Some(settling),
        (None, _) | (_, None) => None,
        _ => Some(!settling),
    }
}

/// The native form; `None` when there is none.
pub(super) fn lower(node: &IdedExpr, identity: &dyn Fn(&str) -> Option<IdentityId>) -> Option<Test> {
    let Expr::Call(CallExpr { func_name, target, args }) = &node.expr else { return None };
    let sub = |at: usize| args.get(at).and_then(|node| lower(node, identity));
    let text = |node: &IdedExpr| text(&node.expr, identity);
    match (func_name.as_str(), target, args.as_slice()) {
        (operators::LOGICAL_AND, None, [_, _]) => Some(Test::All(Box::new([sub(0)?, sub(1)?]))),
        (operators::LOGICAL_OR, None, [_, _]) => Some(Test::Any(Box::new([sub(0)?, sub(1)?]))),
        (operators::LOGICAL_NOT, None, [_]) => Some(Test::Not(Box::new(sub(0)?))),
        (operators::EQUALS, None, [a, b]) => equals(a, b, &text),
        (operators::NOT_EQUALS, None, [a, b]) => equals(a, b, &text).map(|test| Test::Not(Box::new(test))),
        (operators::IN, None, [a, b]) => match &b.expr {
            Expr::List(list) => {
                let values: Option<Vec<String>> = list.elements.iter().map(|element| literal(&element.expr)).collect();
                Some(Test::OneOf(text(a)?, values?.into()))
            }
            _ => None,
        },
        ("startsWith", Some(target), [start]) => Some(Test::StartsWith(text(target)?, literal(&start.expr)?)),
        _ => None,
    }
}

fn equals(a: &IdedExpr, b: &IdedExpr, text: &dyn Fn(&IdedExpr) -> Option<Text>) -> Option<Test> {
    let (text, value) = match (text(a), text(b)) {
        (Some(text), None) => (text, literal(&b.expr)?),
        (None, Some(text)) => (text, literal(&a.expr)?),
        _ => return None,
    };
    Some(Test::OneOf(text, [value].into()))
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}

fn text(expr: &Expr, identity: &dyn Fn(&str) -> Option<IdentityId>) -> Option<Text> {
    let field = |expr: &Expr| match expr {
        Expr::Select(select) if !select.test => match &select.operand.expr {
            Expr::Ident(root) => Some((root.clone(), select.field.clone())),
            _ => None,
        },
        _ => None,
    };
    match expr {
        Expr::Ident(name) if name == "route" => Some(Text::Identity(IdentityId::ROUTE)),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [map, name] = call.args.as_slice() else { return None };
            let (root, map) = field(&map.expr)?;
            // Names are lower case in the map that CEL sees, so any other spelling finds nothing.
            let name = literal(&name.expr).filter(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase()))?;
            (root == "request" && map == "headers").then_some(Text::Header(name))
        }
        expr => match field(expr).as_ref().map(|(root, field)| (root.as_str(), field.as_str()))? {
            ("request", "method") => Some(Text::Method),
            ("request", "path") => Some(Text::Path),
            ("identity", name) => identity(name).map(Text::Identity),
            _ => None,
        },
    }
}
