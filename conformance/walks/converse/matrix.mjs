// One device of somebody who uses Matrix, with plain requests of the client-server API.

import { SEEN_WITHIN_MS, Wrong } from "./page.mjs";

const q = encodeURIComponent;

export class Matrix {
  constructor(base) {
    Object.assign(this, { base, transactions: 0, heard: {} });
  }

  async call(method, path, body, raw) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(this.base + path, { method, headers, body: raw ?? (body && JSON.stringify(body)) });
    if (response.status !== 200) throw new Wrong(`${method} ${path}: seen ${response.status} ${await response.text()}`);
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return isJson ? response.json() : response.text();
  }

  async register(username, password) {
    const body = { username, password, auth: { type: "m.login.dummy" } };
    const seen = await this.call("POST", "/_matrix/client/v3/register", body);
    [this.token, this.user] = [seen.access_token, seen.user_id];
    return this;
  }

  room(room, ...rest) {
    return `/_matrix/client/v3/rooms/${[room, ...rest].map(q).join("/")}`;
  }

  async send(room, content, kind = "m.room.message") {
    return (await this.call("PUT", this.room(room, "send", kind, `${this.transactions++}`), content)).event_id;
  }

  says(room, body, more = {}) {
    return this.send(room, { msgtype: "m.text", body, ...more });
  }

  redact(room, event) {
    return this.call("PUT", this.room(room, "redact", event, `${this.transactions++}`), {});
  }

  async join(room) {
    return (await this.call("POST", `/_matrix/client/v3/join/${q(room)}`, {})).room_id;
  }

  // Syncs until `find` gives something for an answer, or for what was there before.
  async until(what, find) {
    const deadline = Date.now() + SEEN_WITHIN_MS;
    let seen = {};
    for (;;) {
      const found = find(seen);
      if (found) return found;
      if (Date.now() > deadline) throw new Wrong(`${this.user} expected ${what} within ${SEEN_WITHIN_MS} ms`);
      const since = this.since ? `&since=${q(this.since)}` : "";
      seen = await this.call("GET", `/_matrix/client/v3/sync?timeout=1000${since}`);
      this.since = seen.next_batch;
      for (const kind of ["join", "leave"]) {
        for (const [room, news] of Object.entries(seen.rooms?.[kind] ?? {})) {
          (this.heard[room] ??= []).push(...(news.timeline?.events ?? []));
        }
      }
    }
  }

  // The first event of a room that is wanted, of those that came and were not looked for yet.
  event(room, what, holds) {
    return this.until(what, () => {
      const events = this.heard[room] ?? [];
      const at = events.findIndex(holds);
      return at < 0 ? undefined : events.splice(0, at + 1).at(-1);
    });
  }

  hearsSaid(room, body) {
    return this.event(room, `"${body}"`, (event) => event.content.body === body);
  }

  ephemeral(room, kind, holds) {
    const of = (seen) => seen.rooms?.join?.[room]?.ephemeral?.events ?? [];
    return this.until(kind, (seen) => of(seen).find((event) => event.type === kind && holds(event.content)));
  }

  invitation() {
    return this.until("an invitation", (seen) => Object.keys(seen.rooms?.invite ?? {})[0]);
  }
}
