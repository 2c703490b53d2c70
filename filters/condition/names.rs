//! Which variables and functions a condition names, and whether there are such.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

use crate::engine::IdentityId;

/// Functions of the standard environment; operators are spelled with signs and need no list.
const FUNCTIONS: [&str; 17] = [
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "min",
    "max",
    "has",
    "dyn",
    "lowerAscii",
];

/// The variables of a condition.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) identities: Vec<(String, IdentityId)>,
    pub(super) request: bool,
    pub(super) headers: bool,
    pub(super) client: bool,
    pub(super) route: bool,
}

impl Names {
    pub(super) fn of(root: &IdedExpr, identity: &dyn Fn(&str) -> Option<IdentityId>) -> Result<Self, String> {
        let mut walk = Walk { names: Self::default(), own: Vec::new(), identity };
        walk.visit(&root.expr)?;
        Ok(walk.names)
    }
}

struct Walk<'a> {
    names: Names,
    /// Variables that the expression itself introduces, as in `list.exists(x, …)`.
    own: Vec<String>,
    identity: &'a dyn Fn(&str) -> Option<IdentityId>,
}

impl Walk<'_> {
    fn visit(&mut self, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Ident(name) => self.variable(name, None),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) => self.variable(root, Some(&select.field)),
                operand => self.visit(operand),
            },
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
                    return Err(format!("there is no function `{name}` (there are: {})", FUNCTIONS.join(", ")));
                }
                call.target.iter().map(|target| &target.expr).try_for_each(|target| self.visit(target))?;
                call.args.iter().try_for_each(|argument| self.visit(&argument.expr))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(&element.expr)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key.expr)?;
                    self.visit(&entry.value.expr)
                }
                EntryExpr::StructField(field) => self.visit(&field.value.expr),
            }),
            Expr::Comprehension(inner) => {
                self.visit(&inner.iter_range.expr)?;
                self.visit(&inner.accu_init.expr)?;
                let before = self.own.len();
                self.own.extend([inner.iter_var.clone(), inner.accu_var.clone()]);
                self.own.extend(inner.iter_var2.clone());
                let parts = [&inner.loop_cond, &inner.loop_step, &inner.result];
                parts.into_iter().try_for_each(|part| self.visit(&part.expr))?;
                self.own.truncate(before);
                Ok(())
            }
            Expr::Struct(_) => Err("messages are not known here".to_owned()),
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn variable(&mut self, root: &str, field: Option<&str>) -> Result<(), String> {
        if self.own.iter().any(|own| own == root) {
            return Ok(());
        }
        match (root, field) {
            ("identity", Some(name)) => {
                let id = (self.identity)(name).ok_or_else(|| format!("no identity is named `{name}`"))?;
                self.names.identities.push((name.to_owned(), id));
            }
            ("request", Some("method" | "path")) => self.names.request = true,
            ("request", Some("headers")) => (self.names.request, self.names.headers) = (true, true),
            ("client", Some("ip")) => self.names.client = true,
            ("route", None) => self.names.route = true,
            (root, field) => {
                let name = field.map_or_else(|| root.to_owned(), |field| format!("{root}.{field}"));
                return Err(format!(
                    "there is no variable `{name}` (there are: identity.<name>, request.method, request.path, \
                     request.headers, client.ip, route)"
                ));
            }
        }
        Ok(())
    }
}
