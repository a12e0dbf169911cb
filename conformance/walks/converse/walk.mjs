// A walk with Converse.js in Chromium over a WebSocket: Alice and Carol use it, Bob uses Matrix, one server.
//
// usage: walk.mjs BASE_URL
//
// Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

import { Matrix } from "./matrix.mjs";
import { Converse, Wrong, launch, serve } from "./page.mjs";

const PASSWORD = "correct horse battery staple";
const base = process.argv[2].replace(/\/$/, "");
const suffix = Date.now().toString(36);
const people = {};
let server, browser, domain, host, alice, carol, bob, room, muc, den;

function expect(what, expected, seen) {
  if (expected !== seen) throw new Wrong(`${what}: expected ${JSON.stringify(expected)}, seen ${JSON.stringify(seen)}`);
}

const jid = (name) => `${name}-${suffix}@${host}`;
const isEdit = (event) => event.content["m.relates_to"]?.rel_type === "m.replace";
const isReaction = (event) => event.type === "m.reaction";
const isRedaction = (event) => event.type === "m.room.redaction";
const redacted = (event) => event.redacts ?? event.content.redacts;
const replaces = (event, body) => ({
  "m.new_content": { msgtype: "m.text", body },
  "m.relates_to": { rel_type: "m.replace", event_id: event },
});

async function enter(person) {
  const page = server.address();
  const client = new Converse(browser, `http://127.0.0.1:${page.port}/`, base, person);
  await client.logIn(jid(person), PASSWORD);
  return client;
}

// Edits, reacts, answers and takes back in a conversation with Bob, or in a room where he is; both ways.
async function talks(client, where) {
  await client.says("hello, wrold");
  const first = (await bob.hearsSaid(where, "hello, wrold")).event_id;
  await client.act(await client.hears("hello, wrold"), "edit");
  await client.says("hello, world");
  const edit = await bob.event(where, "an edit", isEdit);
  expect("what is edited", first, edit.content["m.relates_to"].event_id);
  expect("the new text", "hello, world", edit.content["m.new_content"].body);
  await client.hears("hello, world");

  const answer = await bob.says(where, "see you at noom");
  await client.hears("see you at noom");
  await bob.says(where, "* see you at noon", replaces(answer, "see you at noon"));
  const shown = await client.hears("see you at noon");
  await client.showsNot(".chat-msg", "see you at noom");

  await client.act(shown, "reaction");
  await (await client.shows(".reaction-item")).page().locator(".reaction-item:visible").first().click();
  const reaction = await bob.event(where, "a reaction", isReaction);
  expect("what it is for", answer, reaction.content["m.relates_to"].event_id);
  await bob.send(where, { "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "🎈" } }, "m.reaction");
  await client.shows(".chat-msg__reactions", "🎈");

  await client.act(shown, "reply");
  await client.says("at noon, then");
  const reply = await bob.event(where, "an answer", (event) => event.content["m.relates_to"]?.["m.in_reply_to"]);
  expect("what is answered", answer, reply.content["m.relates_to"]["m.in_reply_to"].event_id);
  await bob.says(where, "and I am glad", { "m.relates_to": { "m.in_reply_to": { event_id: first } } });
  await client.hears("and I am glad");
  await client.shows(".chat-msg__reply-context");

  await client.says("not what I meant");
  const slip = (await bob.hearsSaid(where, "not what I meant")).event_id;
  await client.act(await client.hears("not what I meant"), "retract");
  await client.confirm();
  expect("what is taken back", slip, redacted(await bob.event(where, "a redaction", isRedaction)));
  const mistake = await bob.says(where, "a mistake");
  await client.hears("a mistake");
  await bob.redact(where, mistake);
  await client.showsNot(".chat-msg__text", "a mistake");
}

const steps = {
  "register three accounts": async () => {
    for (const name of ["alice", "bob", "carol"]) {
      people[name] = await new Matrix(base).register(`${name}-${suffix}`, PASSWORD);
    }
    bob = people.bob;
    domain = bob.user.slice(bob.user.indexOf(":") + 1);
    [host] = domain.split(":");
    [server, browser] = [await serve(), await launch()];
  },

  "find the WebSocket, and log in": async () => {
    [alice, carol] = [await enter("alice"), await enter("carol")];
    expect("how it is reached", true, /^wss:.*\/xmpp-websocket$/.test(alice.socket));
  },

  "write to Bob, who uses Matrix, and read his answer": async () => {
    await alice.open(jid("bob"));
    await alice.says("hello from a browser");
    room = await bob.invitation();
    await bob.join(room);
    expect("who said it", people.alice.user, (await bob.hearsSaid(room, "hello from a browser")).sender);
    await bob.says(room, "hello from Matrix");
    await alice.hears("hello from Matrix");
  },

  "edit, react, answer and take back, both ways": () => talks(alice, room),

  "send a file, both ways": async () => {
    const file = { name: "letter.txt", mimeType: "text/plain", buffer: Buffer.from("dear Bob") };
    await alice.page.locator("input.fileupload").last().setInputFiles(file);
    const event = await bob.event(room, "a file", (event) => event.content.url);
    const media = event.content.url.slice("mxc://".length);
    expect("the letter", "dear Bob", await bob.call("GET", `/_matrix/client/v1/media/download/${media}`));
    const { content_uri: url } = await bob.call("POST", "/_matrix/media/v3/upload?filename=answer.txt", null, "dear Alice");
    await bob.send(room, { msgtype: "m.file", body: "answer.txt", url, info: { mimetype: "text/plain", size: 10 } });
    const link = (await alice.hears("answer.txt")).locator("a[href*='answer.txt']").first();
    expect("the answer", "dear Alice", await (await fetch(await link.getAttribute("href"))).text());
  },

  "typing, both ways": async () => {
    await alice.field().pressSequentially("let me th");
    await bob.ephemeral(room, "m.typing", (content) => content.user_ids.includes(people.alice.user));
    await alice.says("let me think");
    await bob.hearsSaid(room, "let me think");
    await bob.call("PUT", bob.room(room, "typing", bob.user), { typing: true, timeout: 30_000 });
    await alice.shows(".chat-content__notifications", "is typing");
    await bob.call("PUT", bob.room(room, "typing", bob.user), { typing: false });
  },

  "what Alice reads is marked as read, and what Bob reads too": async () => {
    const event = await bob.says(room, "have you read this?");
    await alice.hears("have you read this?");
    await bob.ephemeral(room, "m.receipt", (content) => content[event]?.["m.read"]?.[people.alice.user]);
    await alice.says("and you this?");
    const said = await bob.hearsSaid(room, "and you this?");
    await bob.call("POST", bob.room(room, "receipt", "m.read", said.event_id), {});
    await alice.receives("urn:xmpp:chat-markers:0", "displayed");
  },

  "come back, and read what was said meanwhile": async () => {
    await alice.close();
    await bob.says(room, "while you were away");
    alice = await enter("alice");
    await alice.open(jid("bob"));
    await alice.hears("while you were away");
    await alice.hears("hello, world");
  },

  "make a room, which Bob enters by Matrix and Carol by XMPP": async () => {
    const name = `den-${suffix}`;
    muc = `${name}@rooms.${host}`;
    await alice.enterRoom(muc, "Alice");
    den = await bob.join(`#${name}:${domain}`);
    await carol.enterRoom(muc, "Carol");
    await alice.shows(".chat-info, converse-muc-sidebar, .chat-content__notifications", "Carol");
  },

  "the same in the room": () => talks(alice, den),

  "the subject, both ways": async () => {
    await alice.says("/topic On dens");
    const topic = await bob.event(den, "a topic", (event) => event.type === "m.room.topic");
    expect("the topic", "On dens", topic.content.topic);
    await carol.shows(".chat-head__desc, .chatroom-description", "On dens");
  },

  "ask somebody in, and be asked in": async () => {
    await bob.call("POST", bob.room(den, "leave"), {});
    await alice.page.evaluate(([muc, jid]) => window.walk.api.rooms.get(muc).then((room) => room.directInvite(jid, "come back")), [muc, jid("bob")]);
    expect("where he is asked in", den, await bob.invitation());
    await bob.join(den);
    const invite = [people.carol.user];
    const quiet = await bob.call("POST", "/_matrix/client/v3/createRoom", { name: "Quiet", preset: "private_chat", invite });
    const came = (event) => event.type === "m.room.member" && event.state_key === people.carol.user && event.content.membership === "join";
    await bob.event(quiet.room_id, "Carol in the room", came);
  },

  "make somebody leave, and keep somebody out": async () => {
    await alice.open(muc);
    await alice.says("/kick Carol noise");
    await carol.receives(`${muc}/Carol`, "unavailable", "307", "noise");
    await alice.says(`/ban ${await alice.nickOf(muc, jid("bob"))} quiet now`);
    const ban = (event) => event.type === "m.room.member" && event.content.membership === "ban";
    expect("by whom", people.alice.user, (await bob.event(den, "to be banned", ban)).sender);
  },
};

const began = Date.now();
let status = 0;
try {
  for (const [what, step] of Object.entries(steps)) {
    console.log(what);
    await step();
  }
  console.log(`all well after ${((Date.now() - began) / 1000).toFixed(1)} s`);
} catch (error) {
  console.error(error instanceof Wrong ? `WRONG: ${error.message}` : error);
  status = 1;
}
await browser?.close();
server?.close();
process.exit(status);
