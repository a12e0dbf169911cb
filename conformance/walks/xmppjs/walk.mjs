// A walk with @xmpp/client: SASL2, Bind 2 and FAST over TLS, the same over a WebSocket, with somebody who uses Matrix.
//
// usage: walk.mjs BASE_URL
//
// Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

import { client, xml } from "@xmpp/client";
import WebSocket from "ws";

// Not every Node that this runs on has one of its own.
globalThis.WebSocket ??= WebSocket;

// The certificate is one that koine made for itself.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");
// What goes wrong in a session is told by its event `error`; the library rejects promises that nobody has beside that.
process.on("unhandledRejection", () => {});

const PASSWORD = "correct horse battery staple";
// How long something that another did may take until it is seen.
const SEEN_WITHIN_MS = 15_000;
// koine listens for XMPP beside its web server: so many ports further.
const [TLS_OF_WEB, STARTTLS, DIRECT_TLS] = [1, 3, 4];

const NS = {
  sasl2: "urn:xmpp:sasl:2",
  fast: "urn:xmpp:fast:0",
  bind2: "urn:xmpp:bind:0",
  carbons: "urn:xmpp:carbons:2",
  csi: "urn:xmpp:csi:0",
  forward: "urn:xmpp:forward:0",
  sm: "urn:xmpp:sm:3",
  stanzaId: "urn:xmpp:sid:0",
  ping: "urn:xmpp:ping",
};

class Wrong extends Error {}

function expect(what, expected, seen) {
  if (expected !== seen) throw new Wrong(`${what}: expected ${JSON.stringify(expected)}, seen ${JSON.stringify(seen)}`);
}

function expectThat(what, holds, seen = "") {
  if (!holds) throw new Wrong(`expected that ${what}; seen ${seen}`);
}

function within(promise, what) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Wrong(`expected ${what} within ${SEEN_WITHIN_MS} ms`)), SEEN_WITHIN_MS).unref();
  });
  return Promise.race([promise, late]);
}

// One session of somebody. What comes is kept in order until it is looked for.
class Session {
  constructor(service, domain, name, more = {}) {
    const id = more.agent ?? crypto.randomUUID();
    const userAgent = xml("user-agent", { id }, xml("software", {}, "walk"), xml("device", {}, "here"));
    const { agent: _, ...rest } = more;
    this.xmpp = client({ service, domain, username: name, password: PASSWORD, userAgent, ...rest });
    this.xmpp.reconnect.stop();
    this.xmpp.timeout = SEEN_WITHIN_MS;
    this.heard = [];
    this.waiting = null;
    // Everything of the stream, both ways.
    this.seen = [];
    this.sent = [];
    this.errors = [];
    this.xmpp.on("error", (error) => this.errors.push(error));
    this.xmpp.on("element", (element) => this.seen.push(element));
    this.xmpp.on("send", (element) => this.sent.push(element));
    this.xmpp.on("stanza", (stanza) => {
      this.heard.push(stanza);
      this.waiting?.();
    });
  }

  // COMPAT(@xmpp/client, 0.14): what `start` gives is not waited for, since it misses the header of a server that answers fast.
  async logIn() {
    const online = new Promise((resolve, reject) => {
      this.xmpp.once("online", resolve);
      this.xmpp.once("error", reject);
    });
    this.xmpp.start().catch(() => {});
    await within(online, "a session");
    await this.xmpp.send(xml("presence"));
  }

  // The first stanza that `holds` says yes to, of those that came and were not looked for yet.
  async hears(what, holds) {
    const look = async () => {
      for (;;) {
        const at = this.heard.findIndex(holds);
        if (at >= 0) {
          const [found] = this.heard.splice(0, at + 1).slice(-1);
          return found;
        }
        await new Promise((resolve) => (this.waiting = resolve));
      }
    };
    return within(look(), `${this.xmpp.jid} to hear ${what}`);
  }

  hearsSaid(body) {
    return this.hears(`"${body}"`, (stanza) => stanza.is("message") && stanza.getChildText("body") === body);
  }

  says(to, body) {
    return this.xmpp.send(xml("message", { to, type: "chat", id: crypto.randomUUID() }, xml("body", {}, body)));
  }

  // What was sent and came of one kind.
  sentOf(name) {
    return this.sent.filter((element) => element.is?.(name));
  }

  seenOf(name) {
    return this.seen.filter((element) => element.is?.(name));
  }
}

// One device of somebody who uses Matrix.
class Matrix {
  constructor(base) {
    this.base = base;
    this.transactions = 0;
    this.heard = {};
  }

  async call(method, path, body) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(this.base + path, { method, headers, body: body && JSON.stringify(body) });
    const seen = await response.json();
    if (response.status !== 200) throw new Wrong(`${method} ${path}: seen ${response.status} ${JSON.stringify(seen)}`);
    return seen;
  }

  async register(username) {
    const body = { username, password: PASSWORD, auth: { type: "m.login.dummy" } };
    const seen = await this.call("POST", "/_matrix/client/v3/register", body);
    [this.token, this.user] = [seen.access_token, seen.user_id];
    return this;
  }

  async syncUntil(what, find) {
    const look = async () => {
      for (;;) {
        const found = find(this.last ?? {});
        if (found) return found;
        const since = this.since ? `&since=${encodeURIComponent(this.since)}` : "";
        this.last = await this.call("GET", `/_matrix/client/v3/sync?timeout=1000${since}`);
        this.since = this.last.next_batch;
        for (const [room, news] of Object.entries(this.last.rooms?.join ?? {})) {
          (this.heard[room] ??= []).push(...(news.timeline?.events ?? []));
        }
      }
    };
    return within(look(), `${this.user} to see ${what}`);
  }

  async hearsSaid(room, body) {
    return this.syncUntil(`"${body}"`, () => this.heard[room]?.find((event) => event.content.body === body));
  }

  async invitation() {
    return this.syncUntil("an invitation", (seen) => Object.keys(seen.rooms?.invite ?? {})[0]);
  }

  async says(room, body) {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${this.transactions++}`;
    return (await this.call("PUT", path, { msgtype: "m.text", body })).event_id;
  }
}

const base = process.argv[2].replace(/\/$/, "");
const port = Number(new URL(base).port);
const suffix = Date.now().toString(36);
const [alice, bob] = [`alice-${suffix}`, `bob-${suffix}`];
const agent = crypto.randomUUID();
let domain, room, matrix, session, token, resource;
const sessions = [];

function connect(service, more) {
  const made = new Session(service, domain, alice, more);
  sessions.push(made);
  return made;
}

const direct = () => `xmpps://127.0.0.1:${port + DIRECT_TLS}`;

const steps = {
  "register two accounts": async () => {
    const { user } = await new Matrix(base).register(alice);
    domain = user.split(":")[1];
    matrix = await new Matrix(base).register(bob);
  },

  "log in with SASL2 and Bind 2, and get a token": async () => {
    session = connect(direct(), { agent, resource: "walk" });
    session.xmpp.fast.saveToken = async (given) => (token = given);
    await session.logIn();
    const [asked] = session.sentOf("authenticate");
    expect("how it logs in", NS.sasl2, asked?.getNS());
    const [success] = session.seenOf("success");
    expectThat("a resource is bound with it", success?.getChild("bound", NS.bind2), success);
    resource = session.xmpp.jid.resource;
    expectThat("the resource begins as wished", resource.startsWith("walk"), resource);
    expectThat("stream management is on", session.xmpp.streamManagement.enabled);
    expectThat("there is a token", token?.token && token.mechanism.startsWith("HT-SHA-256-"), JSON.stringify(token));
  },

  "write to somebody who uses Matrix, who answers": async () => {
    const to = `${bob}@${domain}`;
    await session.says(to, "hello from XMPP");
    room = await matrix.invitation();
    await matrix.call("POST", `/_matrix/client/v3/join/${encodeURIComponent(room)}`, {});
    await matrix.hearsSaid(room, "hello from XMPP");
    const event = await matrix.says(room, "hello from Matrix");
    const heard = await session.hearsSaid("hello from Matrix");
    expect("its stanza-id", event, heard.getChild("stanza-id", NS.stanzaId)?.attrs.id);
  },

  "a connection is cut: nothing is lost, nothing comes twice": async () => {
    const { xmpp } = session;
    const cut = new Promise((resolve) => xmpp.once("disconnect", resolve));
    xmpp.socket.socket.destroy();
    await within(cut, "the cut");
    await matrix.says(room, "while you were cut off");
    const resumed = new Promise((resolve) => xmpp.streamManagement.once("resumed", resolve));
    xmpp.reconnect.reconnect().catch(() => {});
    await within(resumed, "resumption");
    await session.hearsSaid("while you were cut off");
    await session.says(`${bob}@${domain}`, "back again");
    await matrix.hearsSaid(room, "back again");
    const twice = session.heard.filter((stanza) => stanza.getChildText?.("body") === "while you were cut off");
    expect("what came twice", 0, twice.length);
  },

  "come back with the token, under the same resource": async () => {
    await session.xmpp.stop();
    session = connect(direct(), { agent, resource: "walk", password: undefined });
    session.xmpp.fast.fetchToken = async () => token;
    session.xmpp.fast.saveToken = async (given) => (token = given);
    await session.logIn();
    const [asked] = session.sentOf("authenticate");
    expect("the mechanism", token.mechanism, asked.attrs.mechanism);
    expect("attempts", 1, session.sentOf("authenticate").length);
    expect("challenges", 0, session.seenOf("challenge").length);
    expect("the resource", resource, session.xmpp.jid.resource);
  },

  "a WebSocket, where other sessions get copies": async () => {
    const other = connect(`wss://127.0.0.1:${port + TLS_OF_WEB}/xmpp-websocket`, { resource: "web" });
    await other.logIn();
    await other.xmpp.iqCaller.request(xml("iq", { type: "set" }, xml("enable", NS.carbons)));
    await session.says(`${bob}@${domain}`, "said over TCP");
    const copy = await other.hears("a carbon", (stanza) => stanza.getChild("sent", NS.carbons));
    const inner = copy.getChild("sent").getChild("forwarded", NS.forward).getChild("message");
    expect("what is copied", "said over TCP", inner.getChildText("body"));
    await other.says(`${bob}@${domain}`, "said over a WebSocket");
    await matrix.hearsSaid(room, "said over a WebSocket");
    await other.xmpp.iqCaller.request(xml("iq", { type: "get", to: domain }, xml("ping", NS.ping)));
  },

  "inactive, and active again": async () => {
    await session.xmpp.send(xml("inactive", NS.csi));
    await matrix.says(room, "worth waking up for");
    await session.hearsSaid("worth waking up for");
    await session.xmpp.send(xml("active", NS.csi));
    await matrix.says(room, "still here");
    await session.hearsSaid("still here");
  },

  "STARTTLS": async () => {
    const third = connect(`xmpp://127.0.0.1:${port + STARTTLS}`, { resource: "third" });
    await third.logIn();
    expect("whether it is secure", true, third.xmpp.isSecure());
  },

  "not with a wrong password": async () => {
    const thief = connect(direct(), { password: "a guess" });
    const refused = await thief.logIn().then(() => null, (error) => error);
    expect("why", "not-authorized", refused?.condition);
  },
};

const began = Date.now();
try {
  for (const [what, step] of Object.entries(steps)) {
    console.log(what);
    await step();
  }
  await Promise.allSettled(sessions.map((one) => one.xmpp.stop()));
  console.log(`all well after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  process.exit(0);
} catch (error) {
  console.error(error instanceof Wrong ? `WRONG: ${error.message}` : error);
  for (const one of sessions) for (const why of one.errors) console.error(`  ${one.xmpp.jid}: ${why}`);
  process.exit(1);
}
