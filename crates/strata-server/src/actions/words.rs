//! The calls' messages, as JSON and as protocol buffers, and twirp's errors.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use prost::Message;
use serde_json::{Value as Json, json};
use strata_reapi::messages;

use crate::body::{self, Body};
use crate::fault::Fault;
use crate::request::{Asked, excuse, with_body};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";
const LIMIT_BYTES: usize = 1 << 20;

messages! {
    pub(super),

    /// What all three calls ask with: field numbers differ, names do not.
    Create { key: [string] = 2, version: [string] = 3 }
    Finalize { key: [string] = 2, size_bytes: [int64] = 3, version: [string] = 4 }
    Find { key: [string] = 2, restore_keys: [strings] = 3, version: [string] = 4 }
    /// What all three answer with; of the third field each has its own meaning, or none.
    Answer { ok: [bool] = 1, text: [string] = 2, matched_key: [string] = 3 }
    Finalized { ok: [bool] = 1, entry_id: [int64] = 2 }
}

/// A message that has a form in JSON as well.
pub(super) trait Words: Message + Default {
    fn of_json(json: &Json) -> Option<Self>;
}

/// A field by either of the names that protocol buffers have in JSON.
fn field<'a>(json: &'a Json, name: &str, other: &str) -> &'a Json {
    if json[name].is_null() { &json[other] } else { &json[name] }
}

fn text(json: &Json) -> Option<String> {
    if json.is_null() { Some(String::new()) } else { json.as_str().map(str::to_owned) }
}

impl Words for Create {
    fn of_json(json: &Json) -> Option<Self> {
        Some(Self { key: text(&json["key"])?, version: text(&json["version"])? })
    }
}

impl Words for Finalize {
    fn of_json(json: &Json) -> Option<Self> {
        // 64 bits are text in JSON.
        let size = field(json, "size_bytes", "sizeBytes");
        let size_bytes = size.as_i64().or_else(|| size.as_str()?.parse().ok());
        let size_bytes = if size.is_null() { 0 } else { size_bytes? };
        Some(Self { key: text(&json["key"])?, size_bytes, version: text(&json["version"])? })
    }
}

impl Words for Find {
    fn of_json(json: &Json) -> Option<Self> {
        let all = field(json, "restore_keys", "restoreKeys").as_array().into_iter().flatten();
        let restore_keys = all.map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        Some(Self { key: text(&json["key"])?, restore_keys, version: text(&json["version"])? })
    }
}

fn is_json(asked: &Asked) -> bool {
    asked.header(CONTENT_TYPE).is_none_or(|kind| kind.starts_with(JSON))
}

/// Reads a call's message.
pub(super) async fn read<M: Words>(asked: &mut Asked) -> Result<M, Fault> {
    let bytes = body::collect(&mut asked.body, LIMIT_BYTES).await?;
    if !is_json(asked) {
        return M::decode(bytes).map_err(|error| Fault::Invalid(error.to_string()));
    }
    let json: Json =
        serde_json::from_slice(&bytes).map_err(|error| Fault::Invalid(error.to_string()))?;
    M::of_json(&json).ok_or_else(|| Fault::invalid("a field has another type than it should"))
}

/// An address, under the name that this call's answer has for it.
pub(super) fn address(
    asked: &Asked,
    name: &str,
    address: Option<(String, String)>,
) -> Response<Body> {
    let ok = address.is_some();
    let (text, matched_key) = address.unwrap_or_default();
    if !is_json(asked) {
        return protobuf(&Answer { ok, text, matched_key });
    }
    let mut json = json!({ "ok": ok, name: text });
    if !matched_key.is_empty() {
        json["matched_key"] = json!(matched_key);
    }
    with_body(http::StatusCode::OK, JSON, json.to_string())
}

pub(super) fn finalized(asked: &Asked, entry_id: i64) -> Response<Body> {
    if !is_json(asked) {
        return protobuf(&Finalized { ok: true, entry_id });
    }
    let json = json!({ "ok": true, "entry_id": entry_id.to_string() });
    with_body(http::StatusCode::OK, JSON, json.to_string())
}

fn protobuf(message: &impl Message) -> Response<Body> {
    with_body(http::StatusCode::OK, PROTOBUF, Bytes::from(message.encode_to_vec()))
}

/// A fault in twirp's words.
pub(crate) fn refuse(fault: &Fault) -> Response<Body> {
    let code = match fault {
        Fault::NotFound => "not_found",
        Fault::Unauthorized => "unauthenticated",
        Fault::Denied(_) => "permission_denied",
        Fault::Invalid(_) | Fault::Mismatch(_) | Fault::TooLarge { .. } => "invalid_argument",
        Fault::NoRoom(_) | Fault::Quota(_) | Fault::TooMany { .. } => "resource_exhausted",
        Fault::Conflict(_) => "already_exists",
        Fault::Method => "bad_route",
        Fault::Range => "out_of_range",
        Fault::Broken(_) => "canceled",
        Fault::Busy(_) | Fault::Upstream(_) => "unavailable",
        Fault::Internal(_) => "internal",
    };
    let json = json!({ "code": code, "msg": fault.to_string() });
    let mut response = with_body(fault.status(), JSON, json.to_string());
    excuse(&mut response, fault);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_two_names_and_numbers_as_text() {
        let check = |json: Json, expected: Option<Finalize>| {
            assert_eq!(Finalize::of_json(&json), expected, "{json}");
        };
        let (key, version) = ("k".to_owned(), "v".to_owned());
        let expected = Finalize { key, version, size_bytes: 7 };
        check(json!({"key": "k", "version": "v", "size_bytes": "7"}), Some(expected.clone()));
        check(json!({"key": "k", "version": "v", "sizeBytes": 7}), Some(expected.clone()));
        check(json!({"key": "k", "version": "v"}), Some(Finalize { size_bytes: 0, ..expected }));
        check(json!({"key": 1, "version": "v"}), None);
        check(json!({"key": "k", "version": "v", "size_bytes": "x"}), None);
        assert!(Find::of_json(&json!({"key": "k", "restoreKeys": [1]})).is_none());
        let find = Find::of_json(&json!({"key": "k", "restore_keys": ["a", "b"]}));
        assert_eq!(find.expect("fine").restore_keys, ["a", "b"]);
    }
}
