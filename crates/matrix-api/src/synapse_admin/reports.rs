//! `/_synapse/admin/v1/event_reports`: what people reported to the operator.

use axum::extract::State;
use http::Method;
use koine_room::ReportRecord;
use ruma_common::{EventId, RoomId};
use serde_json::{Value, json, value::RawValue};

use super::{Asked, Page, admin};
use crate::{Api, Endpoints, Error, Json, Result, rooms::query};

/// Reports read at once; no more are kept than some ten of these.
const BATCH: usize = 1_000;

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add_at("admin.reports.list", Method::GET, "/_synapse/admin/v1/event_reports", list);
    endpoints.add_at("admin.reports.get", Method::GET, "/_synapse/admin/v1/event_reports/{report_id}", get);
}

fn shown(api: &Api, id: u64, report: &ReportRecord) -> Value {
    let room = report.room_id.as_deref().and_then(|id| api.rooms.room(<&RoomId>::try_from(id).ok()?).ok());
    let summary = room.as_ref().and_then(|room| room.summary().ok());
    let event = room
        .as_ref()
        .zip(report.event_id.as_deref())
        .and_then(|(room, id)| room.event(<&EventId>::try_from(id).ok()?).ok().flatten());
    json!({
        "id": id,
        "received_ts": report.ts,
        "room_id": report.room_id,
        "event_id": report.event_id,
        "user_id": report.reporter,
        "reason": report.reason,
        "score": null,
        "sender": event.as_ref().map(|placed| placed.event.sender().to_string()).or_else(|| report.user_id.clone()),
        "name": summary.as_ref().and_then(|summary| summary.name.clone()),
        "canonical_alias": summary.and_then(|summary| summary.canonical_alias),
    })
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let page: Page = query(&call.query)?;
    let mut all: Vec<(u64, ReportRecord)> = Vec::new();
    let mut after = 0;
    loop {
        let batch = api.rooms.reports(after, BATCH)?;
        let Some((last, _)) = batch.last() else { break };
        after = *last;
        all.extend(batch);
    }
    // The newest first.
    all.reverse();
    let total = all.len();
    let (found, next) = page.of(all);
    let reports: Vec<Value> = found.iter().map(|(id, report)| shown(&api, *id, report)).collect();
    let mut answer = json!({ "event_reports": reports, "total": total });
    if let Some(next) = next {
        answer["next_token"] = json!(next);
    }
    Ok(Json(answer))
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let id: u64 = call.path[0].parse().map_err(|_| Error::invalid_param("A report's id is a number"))?;
    let before = id.checked_sub(1).ok_or_else(|| Error::not_found("Event report not found"))?;
    let found = api.rooms.reports(before, 1)?.into_iter().find(|(number, _)| *number == id);
    let (_, report) = found.ok_or_else(|| Error::not_found("Event report not found"))?;
    let mut told = shown(&api, id, &report);
    if let (Some(room), Some(event)) = (&report.room_id, &report.event_id)
        && let (Ok(room), Ok(event)) = (<&RoomId>::try_from(room.as_str()), <&EventId>::try_from(event.as_str()))
        && let Some(placed) = api.rooms.room(room)?.event(event)?
    {
        let json: &RawValue = serde_json::from_slice(placed.event.json()).map_err(Error::internal)?;
        told["event_json"] = serde_json::to_value(json).map_err(Error::internal)?;
    }
    Ok(Json(told))
}
