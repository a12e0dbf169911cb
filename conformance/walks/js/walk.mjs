// A walk through an ordinary day with matrix-js-sdk: two people, three devices, one room.
//
// usage: node walk.mjs BASE_URL
//
// The clients run as they do in a web app: they sync by themselves, and the steps look at what arrives. Prints one line per
// step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

import { deflateSync, crc32 } from "node:zlib";
import { isDeepStrictEqual } from "node:util";
import sdk, { ClientEvent, EventTimeline, SyncState } from "matrix-js-sdk";

// The SDK is written for Node 22; this is all that 20 lacks of it.
Promise.withResolvers ??= function () {
    const parts = {};
    parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};

// What the SDK asks for by itself fails when a client logs out or stops; steps await what they ask for.
process.on("unhandledRejection", () => {});

const PASSWORD = "correct horse battery staple";
// How long something that another device did may take until it is seen.
const SEEN_WITHIN_MS = 10_000;
const POLL_MS = 10;
const MESSAGES = 200;

class Wrong extends Error {}

function expect(what, expected, seen) {
    if (!isDeepStrictEqual(seen, expected)) {
        const [wanted, had] = [expected, seen].map((value) => JSON.stringify(value)?.slice(0, 600));
        throw new Wrong(`${what}: expected ${wanted}, seen ${had}`);
    }
}

/** Looks until there is something to see. */
async function see(what, look) {
    const deadline = Date.now() + SEEN_WITHIN_MS;
    for (;;) {
        const found = look();
        if (found) return found;
        if (Date.now() > deadline) throw new Wrong(`expected ${what} within ${SEEN_WITHIN_MS} ms, seen nothing of it`);
        await new Promise((resume) => setTimeout(resume, POLL_MS));
    }
}

/** The errcode with which something is refused. */
async function refusal(attempt) {
    try {
        return { succeeded: await attempt };
    } catch (error) {
        return error.errcode ?? String(error);
    }
}

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };
const base = process.argv[2];
if (!base) {
    console.error("usage: node walk.mjs BASE_URL");
    process.exit(2);
}
const anonymous = () => sdk.createClient({ baseUrl: base, logger: quiet });
const running = [];

/** A client that syncs by itself. */
async function start({ user_id, access_token, device_id }) {
    const client = sdk.createClient({
        baseUrl: base,
        userId: user_id,
        accessToken: access_token,
        deviceId: device_id,
        disableVoip: true,
        timelineSupport: true,
        logger: quiet,
    });
    running.push(client);
    const prepared = new Promise((resume) => {
        client.on(ClientEvent.Sync, (state) => state === SyncState.Prepared && resume(true));
    });
    await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true, threadSupport: true, pollTimeout: 5000 });
    const given = new Promise((resume) => setTimeout(resume, SEEN_WITHIN_MS, false));
    if (!(await Promise.race([prepared, given]))) throw new Wrong("expected the first sync, seen none");
    return client;
}

async function register(name) {
    return await anonymous().registerRequest({
        username: name,
        password: PASSWORD,
        initial_device_display_name: "walk",
        auth: { type: "m.login.dummy" },
    });
}

const logIn = (user, password, name) =>
    anonymous().loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user },
        password,
        initial_device_display_name: name,
    });

/** A picture with a gradient, so that it does not shrink to nothing. */
function png(width, height) {
    const rows = Buffer.alloc(height * (1 + 3 * width));
    for (let y = 0, at = 0; y < height; y++) {
        at++; // filter: none
        for (let x = 0; x < width; x++) {
            rows[at++] = x;
            rows[at++] = y;
            rows[at++] = x * y;
        }
    }
    const chunk = (kind, data) => {
        const named = Buffer.concat([Buffer.from(kind), data]);
        const ends = Buffer.alloc(8);
        ends.writeUInt32BE(data.length, 0);
        ends.writeUInt32BE(crc32(named), 4);
        return Buffer.concat([ends.subarray(0, 4), named, ends.subarray(4)]);
    };
    const header = Buffer.alloc(13);
    header.writeUInt32BE(width, 0);
    header.writeUInt32BE(height, 4);
    header.set([8, 2, 0, 0, 0], 8);
    const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

const text = (body, more = {}) => ({ msgtype: "m.text", body, ...more });
const suffix = Date.now().toString(36);
const names = { alice: `alice-${suffix}`, bob: `bob-${suffix}` };
// What later steps need from earlier ones.
const w = {};

const room = (client) => client.getRoom(w.room);
const timeline = (client) => room(client)?.getLiveTimeline().getEvents() ?? [];
const eventOn = (client, id, what) => see(what, () => room(client)?.findEventById(id));

const STEPS = {
    "register two accounts": async () => {
        const [alice, bob] = [await register(names.alice), await register(names.bob)];
        expect("local part", names.alice, alice.user_id.slice(1).split(":")[0]);
        expect("errcode of a name that is taken", "M_USER_IN_USE", await refusal(register(names.bob)));
        w.alice = await start(alice);
        w.bob = await start(bob);
    },
    "log in on a second device": async () => {
        const login = await logIn(names.alice, PASSWORD, "phone");
        expect("user of the second device", w.alice.getUserId(), login.user_id);
        expect("errcode of a wrong password", "M_FORBIDDEN", await refusal(logIn(names.alice, "not the password", "x")));
        w.phone = await start(login);
        const { devices } = await w.alice.getDevices();
        expect("devices", ["phone", "walk"], devices.map((d) => d.display_name).sort());
        expect("who am I", w.alice.getUserId(), (await w.phone.whoami()).user_id);
    },
    "create a room": async () => {
        const options = { name: "The walk", topic: "one step at a time", preset: "private_chat" };
        w.room = (await w.alice.createRoom(options)).room_id;
        await see("the new room", () => room(w.alice)?.name === "The walk");
        const state = room(w.alice).getLiveTimeline().getState(EventTimeline.FORWARDS);
        expect("topic", "one step at a time", state.getStateEvents("m.room.topic", "").getContent().topic);
        await see("the new room on the second device", () => room(w.phone)?.name === "The walk");
    },
    "invite, and refuse who is not invited": async () => {
        expect("errcode", "M_FORBIDDEN", await refusal(w.bob.joinRoom(w.room)));
        await w.alice.invite(w.room, w.bob.getUserId());
        await see("the invitation", () => room(w.bob)?.getMyMembership() === "invite");
        expect("who invites", w.alice.getUserId(), room(w.bob).getDMInviter() ?? room(w.bob).getMember(w.bob.getUserId()).events.member.getSender());
        expect("name in the invitation", "The walk", room(w.bob).name);
    },
    join: async () => {
        await w.bob.joinRoom(w.room);
        await see("the joined room", () => room(w.bob)?.getMyMembership() === "join");
        const members = Object.keys((await w.alice.getJoinedRoomMembers(w.room)).joined).sort();
        expect("members", [w.alice.getUserId(), w.bob.getUserId()].sort(), members);
    },
    send: async () => {
        const sent = await w.alice.sendEvent(w.room, "m.room.message", text("Good morning"), "first");
        const again = await w.alice.http.authedRequest(
            "PUT",
            `/rooms/${encodeURIComponent(w.room)}/send/m.room.message/first`,
            undefined,
            text("Good morning"),
        );
        expect("event id of a repeated transaction", sent.event_id, again.event_id);
        w.first = sent.event_id;
        const seen = await eventOn(w.bob, w.first, "the message");
        expect("text", "Good morning", seen.getContent().body);
        await see("one's own message, once", () => timeline(w.alice).filter((e) => e.getId() === w.first).length === 1);
        await see("no local echo left", () => timeline(w.alice).every((e) => !e.status));
    },
    edit: async () => {
        const relation = { rel_type: "m.replace", event_id: w.first };
        const content = text("* Good evening", { "m.new_content": text("Good evening"), "m.relates_to": relation });
        w.edited = (await w.alice.sendEvent(w.room, "m.room.message", content)).event_id;
        await see("the edited text", () => room(w.bob).findEventById(w.first).getContent().body === "Good evening");
        const { events } = await w.bob.relations(w.room, w.first, "m.replace", "m.room.message");
        expect("relations", [w.edited], events.map((e) => e.getId()));
    },
    react: async () => {
        const content = { "m.relates_to": { rel_type: "m.annotation", event_id: w.first, key: "👍" } };
        const { event_id } = await w.bob.sendEvent(w.room, "m.reaction", content);
        const seen = await eventOn(w.alice, event_id, "the reaction");
        expect("reaction", "👍", seen.getRelation().key);
    },
    reply: async () => {
        const content = text("And to you", { "m.relates_to": { "m.in_reply_to": { event_id: w.first } } });
        w.replied = (await w.bob.sendEvent(w.room, "m.room.message", content)).event_id;
        expect("what is replied to", w.first, (await eventOn(w.alice, w.replied, "the reply")).replyEventId);
    },
    redact: async () => {
        const { event_id } = await w.bob.sendEvent(w.room, "m.room.message", text("a slip of the tongue"));
        await eventOn(w.alice, event_id, "what is going to be redacted");
        await w.bob.redactEvent(w.room, event_id, undefined, { reason: "slip" });
        await see("the redaction", () => room(w.alice).findEventById(event_id).isRedacted());
        const gone = await w.alice.fetchRoomEvent(w.room, event_id);
        expect("content after redaction", {}, gone.content);
        expect("why", "slip", gone.unsigned?.redacted_because?.content?.reason);
    },
    "upload and fetch media": async () => {
        w.picture = png(320, 200);
        const uploaded = await w.alice.uploadContent(new Blob([w.picture]), { name: "hill.png", type: "image/png" });
        w.mxc = uploaded.content_uri;
        const response = await fetchMedia(w.bob, w.bob.mxcUrlToHttp(w.mxc, undefined, undefined, undefined, false, true, true));
        expect("content type", "image/png", response.headers.get("content-type"));
        expect("same bytes", 0, Buffer.compare(Buffer.from(await response.arrayBuffer()), w.picture));
        const closed = await fetch(w.bob.mxcUrlToHttp(w.mxc, undefined, undefined, undefined, false, true, true));
        expect("status without a token", 401, closed.status);
    },
    "fetch a thumbnail": async () => {
        const response = await fetchMedia(w.bob, w.bob.mxcUrlToHttp(w.mxc, 64, 64, "crop", false, true, true));
        expect("kind", "image", response.headers.get("content-type").split("/")[0]);
        const size = (await response.arrayBuffer()).byteLength;
        expect("smaller than the picture", true, size > 0 && size < w.picture.length);
    },
    "paginate back 200 messages": async () => {
        for (let n = 0; n < MESSAGES; n++) {
            const { event_id } = await (n % 2 ? w.alice : w.bob).sendEvent(w.room, "m.room.message", text(`message ${n}`));
            w.last = event_id;
        }
        await eventOn(w.bob, w.last, "the last message");
        // A device that knows nothing yet has to go back page by page.
        w.tablet = await start(await logIn(names.bob, PASSWORD, "tablet"));
        const bodies = () =>
            timeline(w.tablet).filter((e) => e.getContent().body?.startsWith("message ")).map((e) => e.getContent().body);
        expect("before paging", true, bodies().length <= 20);
        for (let pages = 0; bodies().length < MESSAGES && pages < 20; pages++) {
            await w.tablet.scrollback(room(w.tablet), 40);
        }
        expect("all of them, in order", Array.from({ length: MESSAGES }, (_, n) => `message ${n}`), bodies());
        for (let pages = 0; room(w.tablet).oldState.paginationToken !== null && pages < 20; pages++) {
            await w.tablet.scrollback(room(w.tablet), 40);
        }
        expect("the very first event", "m.room.create", timeline(w.tablet)[0].getType());
    },
    "receipts and unread counts": async () => {
        w.last = (await w.bob.sendEvent(w.room, "m.room.message", text("Are you there?"))).event_id;
        await eventOn(w.alice, w.last, "the last message");
        await see("unread messages", () => room(w.alice).getUnreadNotificationCount("total") > 0);
        await w.bob.sendReadReceipt(await eventOn(w.bob, w.last, "the last message"));
        const by = () => room(w.alice).getEventReadUpTo(w.bob.getUserId(), true);
        await see("the receipt", () => by() === w.last);
        await w.alice.sendReadReceipt(room(w.alice).findEventById(w.last));
        await see("no unread messages", () => room(w.alice).getUnreadNotificationCount("total") === 0);
        await see("no unread messages on the second device", () => room(w.phone).getUnreadNotificationCount("total") === 0);
    },
    typing: async () => {
        await w.bob.sendTyping(w.room, true, 20_000);
        const typing = () => room(w.alice).getMember(w.bob.getUserId())?.typing;
        await see("typing", () => typing() === true);
        await w.bob.sendTyping(w.room, false, 0);
        await see("the end of typing", () => typing() === false);
    },
    "read markers": async () => {
        await w.alice.setRoomReadMarkers(w.room, w.replied, room(w.alice).findEventById(w.last));
        const marker = () => room(w.phone).getAccountData("m.fully_read")?.getContent().event_id;
        await see("the marker on the second device", () => marker() === w.replied);
        await w.alice.setRoomTag(w.room, "m.favourite", { order: 0.5 });
        await see("the tag on the second device", () => room(w.phone).tags["m.favourite"]?.order === 0.5);
    },
    "the second device sees the same": async () => {
        const ids = (client) => timeline(client).map((e) => e.getId());
        await eventOn(w.phone, w.last, "the last message on the second device");
        const newest = ids(w.phone).slice(-20);
        // What a device sent itself it may show where it first drew it, so that one is asked without order.
        expect("what the sending device lacks", [], newest.filter((id) => !ids(w.alice).includes(id)));
        const fresh = await start(await logIn(names.alice, PASSWORD, "fresh"));
        await see("twenty events on a fresh device", () => ids(fresh).length >= 20);
        expect("the newest on a fresh device", newest, ids(fresh).slice(-20));
        await fresh.logout(true);
    },
    "a change of profile is seen": async () => {
        await w.bob.setDisplayName("Bob the Walker");
        await w.bob.setAvatarUrl(w.mxc);
        const profile = await w.alice.getProfileInfo(w.bob.getUserId());
        expect("profile", { displayname: "Bob the Walker", avatar_url: w.mxc }, { ...profile });
        const member = () => room(w.alice).getMember(w.bob.getUserId());
        await see("the new name in the room", () => member()?.name === "Bob the Walker");
        await see("the new avatar in the room", () => member()?.getMxcAvatarUrl() === w.mxc);
    },
    "a thread, with counts and receipts of its own": async () => {
        const root = (await w.bob.sendEvent(w.room, "m.room.message", text("What shall we read?"))).event_id;
        await eventOn(w.alice, root, "the root");
        const relation = { rel_type: "m.thread", event_id: root };
        const sent = await w.bob.sendEvent(w.room, root, "m.room.message", text("Poems", { "m.relates_to": relation }));
        const thread = await see("the thread", () => room(w.alice).getThread(root));
        await see("what is said in it", () => thread.findEventById(sent.event_id));
        await see("a count of its own", () => room(w.alice).getThreadUnreadNotificationCount(root, "total") === 1);
        await w.alice.sendReadReceipt(thread.findEventById(sent.event_id));
        await see("the count at nothing", () => room(w.alice).getThreadUnreadNotificationCount(root, "total") === 0);
        const { chunk } = await w.alice.createThreadListMessagesRequest(w.room, null, 20);
        expect("threads", [root], chunk.map((event) => event.event_id));
        expect("how many are in it", 1, chunk[0].unsigned["m.relations"]["m.thread"].count);
    },
    "a space and its rooms": async () => {
        const { room_id } = await w.alice.createRoom({ name: "The library", creation_content: { type: "m.space" } });
        await w.alice.sendStateEvent(room_id, "m.space.child", { via: [w.alice.getDomain()] }, w.room);
        const { rooms } = await w.alice.getRoomHierarchy(room_id, 20);
        expect("rooms", [room_id, w.room], rooms.map((one) => one.room_id));
    },
    search: async () => {
        await w.bob.sendEvent(w.room, "m.room.message", text("a needle in the hay"));
        const { results } = await w.alice.searchRoomEvents({ term: "NEEDLE" });
        expect("what is found", ["a needle in the hay"], results.map((one) => one.context.getEvent().getContent().body));
    },
    leave: async () => {
        await w.bob.leave(w.room);
        await see("the room left", () => room(w.bob).getMyMembership() === "leave");
        expect("errcode for one who left", "M_FORBIDDEN", await refusal(w.bob.sendEvent(w.room, "m.room.message", text("x"))));
        await w.bob.forget(w.room);
    },
    "log out, and the token is refused": async () => {
        await w.phone.logout(true);
        expect("errcode after logging out", "M_UNKNOWN_TOKEN", await refusal(w.phone.whoami()));
        expect("the other device", w.alice.getUserId(), (await w.alice.whoami()).user_id);
    },
};

async function fetchMedia(client, url) {
    const response = await fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
    expect("status", 200, response.status);
    return response;
}

// The SDK has its own opinion about what to print; the lines of this walk are the result.
console.log = console.debug = console.info = console.warn = console.error = () => {};
const say = (line) => process.stdout.write(`${line}\n`);

let status = 0;
for (const [name, step] of Object.entries(STEPS)) {
    const began = performance.now();
    try {
        await step();
    } catch (error) {
        say(`WRONG  ${name}\n       ${error instanceof Wrong ? error.message : error.stack}`);
        status = 1;
        break;
    }
    say(`ok     ${name} (${Math.round(performance.now() - began)} ms)`);
}
for (const client of running) client.stopClient();
process.exit(status);
