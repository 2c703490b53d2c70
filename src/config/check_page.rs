//! What a waiting room shows: a template that is whole, a path that can be one.

use std::time::Duration;

use tidegate_filters::waiting_room::settings::{Events, LongPolls};

use super::check::Checker;
use super::file_page::LanguageFile;
use super::file_rooms::RoomFile;
use super::placed::At;
use super::types::PageSpec;
use crate::snapshot::path::normalise;
use crate::waiting_room::page::{self, Language};

/// Most people that a limit of events may speak of.
const MOST: u64 = 100_000_000;

impl Checker<'_, '_> {
    pub(super) fn page(&mut self, room: &At<RoomFile>) -> PageSpec {
        let file = &room.value;
        let sse = &file.sse.value;
        let holder = file.sse.or(room.at);
        let below = self.count(&sse.below_position, holder, 1, MOST) as u64;
        let connections = self.count(&sse.max_connections, holder, 1, 1_000_000);
        PageSpec {
            template: file.custom_page_html.as_ref().and_then(|path| self.template(path)),
            language: match file.default_template_language {
                LanguageFile::En => Language::En,
                LanguageFile::ZhCn => Language::ZhCn,
                LanguageFile::ZhTw => Language::ZhTw,
                LanguageFile::Ja => Language::Ja,
                LanguageFile::Ko => Language::Ko,
            },
            long_polls: self.long_polls(room),
            events: sse.enabled.then_some(Events { below_position: below, max_connections: connections }),
        }
    }

    fn long_polls(&self, room: &At<RoomFile>) -> Option<LongPolls> {
        let polling = &room.value.polling.value;
        let holder = room.value.polling.or(room.at);
        let wait = self.span(&polling.max_wait, holder, Duration::ZERO, Duration::from_secs(60));
        let max_waiting = self.count(&polling.max_waiting, holder, 1, 1_000_000);
        (wait > Duration::ZERO).then_some(LongPolls { wait, max_waiting })
    }

    fn template(&mut self, path: &At<std::path::PathBuf>) -> Option<page::Template> {
        let bytes = self.file(path, false)?;
        let read = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned());
        match read.and_then(|text| page::read(&text)) {
            Ok(template) => Some(template),
            Err(why) => {
                self.wrong(path.at, format!("{}: {why}", path.value.display()));
                None
            }
        }
    }

    pub(super) fn room_path(&mut self, path: &At<String>) -> Box<str> {
        let text = &path.value;
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte));
        let whole = text.len() > 1 && text.starts_with('/') && !text.ends_with('/');
        if !plain || !whole || !normalise(text).is_ok_and(|normal| normal == text.as_str()) {
            let help = Some("write it like `/.tidegate/wr`".to_owned());
            self.wrong_with_help(
                path.at,
                "a path begins with `/`, does not end with it, and has plain letters only",
                help,
            );
        }
        text.as_str().into()
    }
}
